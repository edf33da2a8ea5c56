//! Which instruction sets a guest has: those of its CPUID, as far as the host can execute them.

use kvm_abi::cpuid::CpuidEntry;

use crate::thunk::{Feature, HostCpu};

/// Where CPUID tells of a feature: leaf, register (0 is EAX), bit.
type Place = (u32, usize, u32);

/// Instruction sets that the thunks execute. What is missing here is part of every x86-64.
const THUNKED: &[(Feature, Place)] = &[
    (Feature::SSE3, (1, 2, 0)),
    (Feature::PCLMULQDQ, (1, 2, 1)),
    (Feature::SSSE3, (1, 2, 9)),
    (Feature::FMA, (1, 2, 12)),
    (Feature::SSE4_1, (1, 2, 19)),
    (Feature::SSE4_2, (1, 2, 20)),
    (Feature::MOVBE, (1, 2, 22)),
    (Feature::POPCNT, (1, 2, 23)),
    (Feature::AES, (1, 2, 25)),
    (Feature::AVX, (1, 2, 28)),
    (Feature::F16C, (1, 2, 29)),
    (Feature::BMI1, (7, 1, 3)),
    (Feature::AVX2, (7, 1, 5)),
    (Feature::BMI2, (7, 1, 8)),
    (Feature::ADX, (7, 1, 19)),
    (Feature::SHA, (7, 1, 29)),
    (Feature::GFNI, (7, 2, 8)),
    (Feature::VAES, (7, 2, 9)),
    (Feature::VPCLMULQDQ, (7, 2, 10)),
    (Feature::LZCNT, (0x8000_0001, 2, 5)),
];

/// The instruction sets of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestFeatures {
    /// Those of the thunks.
    pub thunks: HostCpu,
    /// RDRAND.
    pub rdrand: bool,
    /// RDSEED.
    pub rdseed: bool,
    /// RDTSCP.
    pub rdtscp: bool,
    /// RDPID.
    pub rdpid: bool,
    /// CLAC and STAC.
    pub smap: bool,
    /// CMPXCHG16B.
    pub cx16: bool,
    /// XSAVEOPT.
    pub xsaveopt: bool,
    /// XSAVEC.
    pub xsavec: bool,
}

impl GuestFeatures {
    /// What `entries` offer. A vCPU whose CPUID was never set has everything, so that tests of bare
    /// code need none.
    pub fn new(entries: &[CpuidEntry], host: HostCpu) -> Self {
        let has = |(function, register, bit): Place, index: u32| {
            entries.is_empty()
                || entries.iter().any(|e| {
                    e.function == function
                        && e.index == index
                        && [e.eax, e.ebx, e.ecx, e.edx][register] & (1 << bit) != 0
                })
        };
        let thunks = THUNKED
            .iter()
            .filter(|(_, place)| !has(*place, 0))
            .fold(host, |host, (feature, _)| host.without(*feature));
        Self {
            thunks,
            rdrand: has((1, 2, 30), 0),
            rdseed: has((7, 1, 18), 0),
            rdtscp: has((0x8000_0001, 3, 27), 0),
            rdpid: has((7, 2, 22), 0),
            smap: has((7, 1, 20), 0),
            cx16: has((1, 2, 13), 0),
            xsaveopt: has((0xd, 0, 0), 1),
            xsavec: has((0xd, 0, 1), 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_has_what_its_cpuid_says() {
        let host = HostCpu::detect();
        assert_eq!(GuestFeatures::new(&[], host).thunks, host);
        let old = CpuidEntry { function: 1, ecx: 1, ..CpuidEntry::default() };
        let f = GuestFeatures::new(&[old], host);
        assert!(!f.thunks.has(Feature::AVX) && !f.thunks.has(Feature::POPCNT));
        assert_eq!(f.thunks.has(Feature::SSE3), host.has(Feature::SSE3));
        assert!(f.thunks.has(Feature::SSE2));
        assert!(!f.rdrand && !f.smap && !f.xsavec);
    }
}
