//! The table of instruction forms, written by the build script.

use iced_x86::Code;

use super::host::Feature;

/// One instruction form.
#[derive(Debug)]
pub(crate) struct Form {
    pub code: Code,
    /// First thunk, or `NO_SLOT`.
    pub slot: u32,
    /// First thunk of the memory form where it differs, or `NO_SLOT`.
    pub mem_slot: u32,
    /// See `kinds::kind`.
    pub kind: u8,
    /// Kind with a memory operand.
    pub mem_kind: u8,
    /// See `kinds::bit`.
    pub bits: u16,
    /// See `kinds::operand`.
    pub ops: [u8; 4],
    /// Size of the memory operand.
    pub mem_bytes: u8,
    /// Alignment whose violation is #GP, or 0.
    pub align: u8,
    /// Bytes of one element, for masked moves and gathers.
    pub element: u8,
    /// Bytes of one index of a gather.
    pub index: u8,
    /// See `kinds::class`.
    pub class: u8,
    pub feature: Feature,
    /// EFLAGS bits read.
    pub flags_read: u16,
    /// EFLAGS bits written, undefined ones included.
    pub flags_written: u16,
}

include!(concat!(env!("OUT_DIR"), "/forms.rs"));
#[cfg(test)]
include!(concat!(env!("OUT_DIR"), "/refused.rs"));

/// The form of `code`, if it is one that is executed here.
pub(crate) fn form(code: Code) -> Option<&'static Form> {
    let at = usize::from(INDEX[code as usize]);
    at.checked_sub(1).map(|at| &FORMS[at])
}
