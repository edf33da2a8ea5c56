//! Little-endian readers and writers for the fixed layouts of `linux/kvm.h`.

/// Appends little-endian fields to a buffer.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
    /// Appends one byte.
    pub fn u8(&mut self, v: u8) -> &mut Self {
        self.0.push(v);
        self
    }
    /// Appends two bytes.
    pub fn u16(&mut self, v: u16) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    /// Appends four bytes.
    pub fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    /// Appends eight bytes.
    pub fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
    /// Appends bytes as they are.
    pub fn bytes(&mut self, v: &[u8]) -> &mut Self {
        self.0.extend_from_slice(v);
        self
    }
    /// Appends `n` zero bytes.
    pub fn pad(&mut self, n: usize) -> &mut Self {
        self.0.resize(self.0.len() + n, 0);
        self
    }
}

/// Reads little-endian fields; past the end it yields zeros and remembers that it did.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    short: bool,
}

impl<'a> Reader<'a> {
    /// A reader over `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, short: false }
    }
    /// Takes `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        if self.rest.len() < N {
            self.short = true;
            self.rest = &[];
            return out;
        }
        let (head, tail) = self.rest.split_at(N);
        out.copy_from_slice(head);
        self.rest = tail;
        out
    }
    /// Takes one byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }
    /// Takes two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }
    /// Takes four bytes.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
    /// Takes eight bytes.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
    /// Skips `n` bytes.
    pub fn skip(&mut self, n: usize) {
        if self.rest.len() < n {
            self.short = true;
            self.rest = &[];
        } else {
            self.rest = &self.rest[n..];
        }
    }
    /// True if every read was inside the buffer.
    #[must_use]
    pub fn complete(&self) -> bool {
        !self.short
    }
}
