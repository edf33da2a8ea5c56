//! Writes the tables as Rust source.

use std::fmt::Write;

use iced_x86::Code;

use crate::select::Form;

/// `FORMS` in the order of their codes, and `INDEX` from code to position plus one.
pub fn table(forms: &[Form]) -> String {
    let mut text = String::new();
    let mut index = vec![0usize; Code::values().len()];
    writeln!(text, "pub(crate) static FORMS: [Form; {}] = [", forms.len()).expect("to a string");
    for (i, form) in forms.iter().enumerate() {
        index[form.code as usize] = i + 1;
        writeln!(
            text,
            "    Form {{ code: Code::{:?}, slot: {}, mem_slot: {}, kind: {}, mem_kind: {}, bits: {}, \
             ops: {:?}, mem_bytes: {}, align: {}, element: {}, index: {}, class: {}, feature: Feature::{:?}, \
             flags_read: {}, flags_written: {} }},",
            form.code,
            form.slot,
            form.mem_slot,
            form.kind,
            form.mem_kind,
            form.bits,
            form.ops,
            form.mem_bytes,
            form.align,
            form.element,
            form.index,
            form.class,
            form.feature,
            form.flags_read,
            form.flags_written
        )
        .expect("to a string");
    }
    writeln!(text, "];\npub(crate) static INDEX: [u16; {}] = {index:?};", index.len())
        .expect("to a string");
    text
}

/// `REFUSED`: codes of related instruction sets that are not executed, with the reason.
pub fn refused(codes: &[(Code, &str)]) -> String {
    let mut text = format!("pub(crate) static REFUSED: [(Code, &str); {}] = [\n", codes.len());
    for (code, reason) in codes {
        writeln!(text, "    (Code::{code:?}, {reason:?}),").expect("to a string");
    }
    text.push_str("];\n");
    text
}
