//! Operating modes.

/// The mode that decides how instructions are decoded and addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Real mode (always 16-bit defaults here; "unreal" limits live in the segments).
    Real,
    /// Virtual-8086.
    V86,
    /// Protected or compatibility mode, 16-bit code segment.
    Protected16,
    /// Protected or compatibility mode, 32-bit code segment.
    Protected32,
    /// 64-bit mode.
    Long64,
}

impl Mode {
    /// Default operand and address bits for the decoder: 16, 32 or 64.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            Self::Real | Self::V86 | Self::Protected16 => 16,
            Self::Protected32 => 32,
            Self::Long64 => 64,
        }
    }
}
