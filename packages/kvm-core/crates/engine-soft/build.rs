//! Assembles the one-instruction thunks and the table of instruction forms (see `src/thunk`).

#[path = "build/emit.rs"]
mod emit;
#[path = "build/encode.rs"]
mod encode;
#[path = "src/thunk/kinds.rs"]
#[allow(dead_code)]
mod kinds;
#[path = "build/select.rs"]
mod select;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::{env, fs};

use iced_x86::Code;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=src/thunk/kinds.rs");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let out = Path::new(&out);

    let mut bodies = encode::Bodies::default();
    let mut forms = Vec::new();
    let mut refused = Vec::new();
    for code in Code::values() {
        match select::select(code) {
            select::Selection::Ignore => {}
            select::Selection::Refuse(reason) => refused.push((code, reason)),
            select::Selection::Form(mut form) => {
                bodies.add(&mut form);
                forms.push(form);
            }
        }
    }
    // The name has a hash of the content: an incremental build keeps assembled code as long as its
    // text, the path, is the same.
    let mut hasher = DefaultHasher::new();
    bodies.bytes().hash(&mut hasher);
    let thunks = out.join(format!("thunks-{:016x}.bin", hasher.finish()));
    fs::write(&thunks, bodies.bytes()).expect("write the thunks");
    println!("cargo::rustc-env=KVM_THUNKS={}", thunks.display());
    fs::write(out.join("forms.rs"), emit::table(&forms)).expect("write forms.rs");
    fs::write(out.join("refused.rs"), emit::refused(&refused)).expect("write refused.rs");
}
