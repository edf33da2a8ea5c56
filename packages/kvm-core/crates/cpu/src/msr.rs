//! m
/// b
pub const MC_BANKS: usize = 10;
