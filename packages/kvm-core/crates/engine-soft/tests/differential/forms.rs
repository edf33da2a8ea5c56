//! The table of instruction forms: which are tested, and why the others are not.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use iced_x86::{Code, CpuidFeature as F, EncodingKind, Mnemonic as M};

/// One instruction form in one mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    pub code: Code,
    /// 64, or 32 for the compatibility mode.
    pub bits: u32,
}

/// Whether a form is tested.
pub enum Coverage {
    Tested,
    /// The reason why not.
    Not(&'static str),
}

use Coverage::{Not, Tested};

/// Leaf, register and bit of a CPUID feature.
type Place = (u32, usize, u32);

/// Extensions whose instructions are tested, with the CPUID bit where the host may lack them.
const EXTENSIONS: [(F, Option<Place>); 49] = [
    (F::INTEL8086, None),
    (F::INTEL186, None),
    (F::INTEL286, None),
    (F::INTEL386, None),
    (F::INTEL486, None),
    (F::X64, None),
    (F::CMOV, None),
    (F::CX8, None),
    (F::MULTIBYTENOP, None),
    (F::PAUSE, None),
    (F::RDPMC, None),
    (F::MSR, None),
    (F::SMM, None),
    (F::SEP, None),
    (F::CLFSH, None),
    (F::FPU, None),
    (F::FPU287, None),
    (F::FPU387, None),
    (F::MMX, None),
    (F::FXSR, None),
    (F::SSE, None),
    (F::SSE2, None),
    (F::SSE3, Some((1, 2, 0))),
    (F::PCLMULQDQ, Some((1, 2, 1))),
    (F::SSSE3, Some((1, 2, 9))),
    (F::FMA, Some((1, 2, 12))),
    (F::CMPXCHG16B, Some((1, 2, 13))),
    (F::SSE4_1, Some((1, 2, 19))),
    (F::SSE4_2, Some((1, 2, 20))),
    (F::MOVBE, Some((1, 2, 22))),
    (F::POPCNT, Some((1, 2, 23))),
    (F::AES, Some((1, 2, 25))),
    (F::XSAVE, Some((1, 2, 26))),
    (F::AVX, Some((1, 2, 28))),
    (F::F16C, Some((1, 2, 29))),
    (F::FSGSBASE, Some((7, 1, 0))),
    (F::BMI1, Some((7, 1, 3))),
    (F::AVX2, Some((7, 1, 5))),
    (F::BMI2, Some((7, 1, 8))),
    (F::INVPCID, Some((7, 1, 10))),
    (F::ADX, Some((7, 1, 19))),
    (F::SMAP, Some((7, 1, 20))),
    (F::CLFLUSHOPT, Some((7, 1, 23))),
    (F::CLWB, Some((7, 1, 24))),
    (F::SHA, Some((7, 1, 29))),
    (F::GFNI, Some((7, 2, 8))),
    (F::VAES, Some((7, 2, 9))),
    (F::VPCLMULQDQ, Some((7, 2, 10))),
    (F::LZCNT, Some((0x8000_0001, 2, 5))),
];

/// Extensions that have a leaf of their own shape.
const MORE_EXTENSIONS: [(F, (u32, u32, usize, u32)); 3] = [
    (F::XSAVEOPT, (0xd, 1, 0, 0)),
    (F::XSAVEC, (0xd, 1, 0, 1)),
    (F::PREFETCHW, (0x8000_0001, 0, 2, 8)),
];

const NONE: &str = "no instruction";
const NOT_OFFERED: &str = "an extension that is not offered";
const WRONG_MODE: &str = "not an instruction of this mode";

/// Whether the test knows what to do with `form`, whatever the host.
pub fn coverage(form: Form) -> Coverage {
    let (code, info) = (form.code, form.code.op_code());
    if !info.is_instruction() {
        return Not(NONE);
    }
    if info.fwait() {
        return Not("a pair with WAIT, which is an instruction of its own");
    }
    match info.encoding() {
        EncodingKind::Legacy | EncodingKind::VEX => {}
        EncodingKind::EVEX => return Not("AVX-512 is not offered"),
        EncodingKind::XOP => return Not("XOP is not offered"),
        EncodingKind::D3NOW => return Not("3DNow! is not offered"),
        _ => return Not("Xeon Phi instructions are not offered"),
    }
    if (form.bits == 64 && !info.mode64()) || (form.bits == 32 && !info.mode32()) {
        return Not(WRONG_MODE);
    }
    let known =
        |f: &F| EXTENSIONS.iter().any(|e| e.0 == *f) || MORE_EXTENSIONS.iter().any(|e| e.0 == *f);
    if !code.cpuid_features().iter().all(known) {
        return match code.cpuid_features() {
            [F::TSC | F::RDTSCP] => Not("the time differs"),
            [F::CPUID] => Not("the models differ"),
            [F::RDRAND | F::RDSEED] => Not("random by nature"),
            [F::RDPID] => Not("the processor number differs"),
            [F::SYSCALL] => Not("reaches the host's kernel"),
            _ => Not(NOT_OFFERED),
        };
    }
    let intel_only = match form.bits {
        64 => info.intel_decoder64() && !info.amd_decoder64(),
        _ => info.intel_decoder32() && !info.amd_decoder32(),
    };
    if intel_only {
        return Not("decoded by Intel's processors only");
    }
    by_mnemonic(code)
}

/// 0F 0D is PREFETCHW with a memory operand.
const REGISTER_PREFETCH: [Code; 3] = [
    Code::Reservednop_rm16_r16_0F0D,
    Code::Reservednop_rm32_r32_0F0D,
    Code::Reservednop_rm64_r64_0F0D,
];

fn by_mnemonic(code: Code) -> Coverage {
    match code.mnemonic() {
        M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => {
            Not("Linux emulates it where UMIP forbids it")
        }
        M::Sysenter | M::Sysexit | M::Sysexitq => {
            Not("reaches the host's kernel, or is undefined, by vendor")
        }
        M::Movsxd if code == Code::Movsxd_r16_rm16 => {
            Not("reads two bytes on some processors, four on others")
        }
        M::Int1 => Not("hypervisors report another RIP for it"),
        M::Reservednop if REGISTER_PREFETCH.contains(&code) => {
            Not("undefined on some processors, no operation on others")
        }
        M::Xgetbv => Not("XCR0 differs"),
        M::Rsm => Not("undefined or a host's matter"),
        M::Getsec => Not("not offered"),
        _ if code.mnemonic() == M::INVALID => Not(NONE),
        _ => Tested,
    }
}

/// True if the host can run the form.
pub fn on_host(form: Form) -> bool {
    if super::host::is_intel() && only_amd(form) {
        return false;
    }
    let features = form.code.cpuid_features();
    features.iter().all(|f| {
        let (leaf, sub, register, bit) = match EXTENSIONS.iter().find(|e| e.0 == *f) {
            Some((_, None)) => return true,
            Some((_, Some((leaf, register, bit)))) => (*leaf, 0, *register, *bit),
            None => match MORE_EXTENSIONS.iter().find(|e| e.0 == *f) {
                Some((_, place)) => *place,
                None => return false,
            },
        };
        let r = std::arch::x86_64::__cpuid_count(leaf, sub);
        [r.eax, r.ebx, r.ecx, r.edx][register] >> bit & 1 != 0
    })
}

/// Near branches of 64-bit code that an operand-size prefix narrows, and UD0 without operands.
fn only_amd(form: Form) -> bool {
    let name = format!("{:?}", form.code);
    let narrow = name.contains("_rel16")
        || name.contains("_rel8_16")
        || name.starts_with("Retnw")
        || matches!(form.code, Code::Call_rm16 | Code::Jmp_rm16);
    form.code == Code::Ud0 || form.bits == 64 && narrow
}

/// All forms that are tested in a mode, whatever the host.
pub fn tested(bits: u32) -> Vec<Form> {
    Code::values()
        .map(|code| Form { code, bits })
        .filter(|&form| matches!(coverage(form), Tested))
        .collect()
}

/// The forms that are tested in neither mode, by reason.
fn uncovered() -> BTreeMap<String, Vec<Code>> {
    let mut out: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for code in Code::values() {
        let reasons = [64, 32].map(|bits| match coverage(Form { code, bits }) {
            Tested => None,
            Not(reason) => Some(reason),
        });
        if let [Some(reason64), Some(reason32)] = reasons {
            // That it is of the other mode says less than why it is not tested there.
            let reason = if reason64 == WRONG_MODE { reason32 } else { reason64 };
            let reason = if reason == NOT_OFFERED {
                format!("{NOT_OFFERED}: {:?}", code.cpuid_features())
            } else {
                reason.to_string()
            };
            out.entry(reason).or_default().push(code);
        }
    }
    out.remove(NONE);
    out
}

/// Longer groups are only counted.
const SHOWN: usize = 20;

/// The list of forms that are not tested, as `uncovered.txt` has it.
pub fn uncovered_list() -> String {
    let mut out = String::new();
    for (reason, codes) in uncovered() {
        let _ = writeln!(out, "{reason}: {}", codes.len());
        if codes.len() > SHOWN || reason.starts_with(NOT_OFFERED) {
            continue;
        }
        let mut line = String::from(" ");
        for code in codes {
            let name = format!(" {code:?}");
            if line.len() + name.len() > 100 {
                let _ = writeln!(out, "{line}");
                line = String::from(" ");
            }
            line.push_str(&name);
        }
        let _ = writeln!(out, "{line}");
    }
    out
}
