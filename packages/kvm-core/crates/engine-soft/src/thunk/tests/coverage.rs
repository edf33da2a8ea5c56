//! The list of instructions in `docs/internals/instructions.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::super::kinds::kind;
use super::super::table::{FORMS, REFUSED};

const HEAD: &str = "\
# Vector, x87 and bit-manipulation instructions

What the software engine does with every instruction form of these extensions that is valid in 64-bit
mode at CPL 3. *Host* forms run as the same instruction of the host CPU, by a thunk assembled into the
addon; *Rust* forms only move data, touch memory by element or control state. A form needs its CPUID
feature on the host. Written by the tests of `kvm-engine-soft`: set `KVM_WRITE_DOCS=1` to refresh.
";

fn wrap(names: &BTreeSet<String>) -> String {
    let mut text = String::new();
    let mut column = 0;
    for name in names {
        if column + name.len() > 98 {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(name);
        column += name.len();
    }
    text
}

fn render() -> String {
    let mut text = HEAD.to_owned();
    let mut features: BTreeMap<String, [(usize, BTreeSet<String>); 2]> = BTreeMap::new();
    for form in &FORMS {
        let entry = features.entry(format!("{:?}", form.feature)).or_default();
        let (count, names) = &mut entry[usize::from(form.kind > kind::X87)];
        *count += 1;
        names.insert(format!("{:?}", form.code.mnemonic()).to_uppercase());
    }
    for (feature, [host, rust]) in &features {
        writeln!(text, "\n## {feature}").expect("to a string");
        for (title, (count, names)) in [("Host", host), ("Rust", rust)] {
            if *count > 0 {
                write!(text, "\n{title}, {count} forms:\n```\n{}\n```\n", wrap(names))
                    .expect("to a string");
            }
        }
    }
    let mut reasons: BTreeMap<&str, (usize, BTreeSet<String>)> = BTreeMap::new();
    for (code, reason) in &REFUSED {
        let (count, names) = reasons.entry(reason).or_default();
        *count += 1;
        names.insert(format!("{:?}", code.mnemonic()).to_uppercase());
    }
    text.push_str("\n## Refused with #UD\n");
    for (reason, (count, names)) in reasons {
        write!(text, "\n{reason}, {count} forms:\n```\n{}\n```\n", wrap(&names))
            .expect("to a string");
    }
    text
}

#[test]
fn the_list_of_instructions_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("../../../../docs/internals/instructions.md");
    let now = render();
    if std::env::var_os("KVM_WRITE_DOCS").is_some() {
        std::fs::write(&path, &now).expect("docs/internals is there");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == now, "{} is stale: set KVM_WRITE_DOCS=1", path.display());
}
