//! Models and features.

use kvm_abi::Errno;
use kvm_abi::cpuid::CpuidEntry;

use super::features::{ALIASES, ALSO, DEPENDS, FEATURES};
use super::*;
use crate::Caps;
use crate::testing::Machine;

/// A host that has everything, and is called "Host CPU".
fn rich(leaf: u32, _sub: u32) -> (u32, u32, u32, u32) {
    match leaf {
        0 => (0x1f, 0x6874_7541, 0x444d_4163, 0x6974_6e65),
        1 => (0x00a1_0f11, u32::MAX, u32::MAX, u32::MAX),
        0x8000_0000 => (0x8000_0028, 0, 0, 0),
        0x8000_0002 => (0x7473_6f48, 0x5550_4320, 0, 0),
        0x8000_0003 | 0x8000_0004 => (0, 0, 0, 0),
        0x8000_0008 => (0x3030, 0, 0, 0),
        _ => (u32::MAX, u32::MAX, u32::MAX, u32::MAX),
    }
}

/// A host of 2004.
fn poor(leaf: u32, _sub: u32) -> (u32, u32, u32, u32) {
    match leaf {
        0 => (1, 0x756e_6547, 0x6c65_746e, 0x4965_6e69),
        1 => (0x0f41, 0, 1, 0x0781_fbff),
        0x8000_0000 => (0x8000_0008, 0, 0, 0),
        0x8000_0001 => (0, 0, 0, 0x2010_0800),
        0x8000_0008 => (0x3024, 0, 0, 0),
        _ => (0, 0, 0, 0),
    }
}

fn changes(list: &[(&str, bool)]) -> Vec<(String, bool)> {
    list.iter().map(|(n, on)| ((*n).to_string(), *on)).collect()
}

fn leaf(entries: &[CpuidEntry], function: u32, index: u32) -> CpuidEntry {
    *entries.iter().find(|e| e.function == function && e.index == index).unwrap()
}

fn has(entries: &[CpuidEntry], name: &str) -> bool {
    let f = FEATURES.iter().find(|f| f.name == name).unwrap();
    let (function, index, register) = f.word.place();
    entries
        .iter()
        .find(|e| e.function == function && e.index == index)
        .is_some_and(|e| [e.eax, e.ebx, e.ecx, e.edx][register] >> f.bit & 1 != 0)
}

#[test]
fn the_tables_are_sound() {
    for (i, f) in FEATURES.iter().enumerate() {
        assert!(FEATURES[..i].iter().all(|o| o.name != f.name), "{} twice", f.name);
        assert!(FEATURES[..i].iter().all(|o| (o.word, o.bit) != (f.word, f.bit)), "{}", f.name);
        assert!(!super::features::NOT_OFFERED.contains(&f.name), "{}", f.name);
    }
    let known = |n: &str| FEATURES.iter().any(|f| f.name == n);
    for (name, base) in DEPENDS {
        assert!(known(name) && known(base), "{name} {base}");
    }
    // A base's own dependencies come first, so that one pass is enough.
    for (i, (_, base)) in DEPENDS.iter().enumerate() {
        assert!(DEPENDS[i..].iter().all(|(name, _)| name != base), "{base} comes too late");
    }
    assert!(ALIASES.iter().all(|(_, n)| known(n)));
    assert!(ALSO.iter().all(|(n, ..)| known(n)));
}

#[test]
fn every_model_is_consistent() {
    for host in [&rich as HostCpuid<'_>, &poor] {
        for model in MODELS {
            let entries = cpuid_for_model(model, &[], host).unwrap();
            for range in [0, 0x4000_0000, 0x8000_0000u32] {
                let last = leaf(&entries, range, 0).eax;
                let inside = entries.iter().filter(|e| e.function & 0xc000_0000 == range);
                assert!(inside.clone().all(|e| e.function <= last), "{model} {range:#x}");
            }
            let xsave = has(&entries, "xsave");
            assert_eq!(entries.iter().any(|e| e.function == 0xd), xsave, "{model}");
            if xsave {
                let d0 = leaf(&entries, 0xd, 0);
                let d2 = leaf(&entries, 0xd, 2);
                let keys = has(&entries, "pku");
                let (components, end) = if keys { (0x207, 2696) } else { (7, d2.eax + d2.ebx) };
                assert_eq!((d0.eax, d0.ecx, d0.ebx), (components, end, 576));
                let place = keys.then(|| leaf(&entries, 0xd, 9)).map(|e| (e.ebx, e.eax));
                assert_eq!(place, keys.then_some((2688, 8)));
            }
            let caps = Caps::from_cpuid(&entries);
            let keys = if has(&entries, "pku") { 0x200 } else { 0 };
            assert_eq!(caps.xcr0, if xsave { 7 | keys } else { 0 });
            assert_ne!(caps.kvm_features, 0);
            for (i, e) in entries.iter().enumerate() {
                let twice =
                    entries[..i].iter().any(|o| (o.function, o.index) == (e.function, e.index));
                assert!(!twice, "{model} has leaf {:#x}.{} twice", e.function, e.index);
            }
        }
    }
}

#[test]
fn qemu64_is_what_qemu_has() {
    let entries = cpuid_for_model("qemu64", &[], &rich).unwrap();
    let one = leaf(&entries, 1, 0);
    assert_eq!(one.eax, 0x0006_0fb1);
    assert_eq!(one.edx, 0x078b_fbfd);
    assert_eq!(one.ecx, 1 << 31 | 1 << 21 | 1 << 13 | 1);
    let ext = leaf(&entries, 0x8000_0001, 0);
    assert_eq!((ext.edx & 0x2010_0800, ext.ecx), (0x2010_0800, 1));
    assert_eq!(leaf(&entries, 0x8000_0008, 0).eax, 0x3028);
    assert!(!has(&entries, "avx") && !has(&entries, "invtsc") && has(&entries, "kvmclock"));
}

#[test]
fn max_has_what_is_fast() {
    let max = cpuid_for_model("max", &[], &rich).unwrap();
    assert!(!has(&max, "pcid") && !has(&max, "invpcid") && has(&max, "auto-ibrs"));
    assert_eq!(leaf(&max, 0x8000_0000, 0).eax, 0x8000_0021);
    assert_eq!(leaf(&max, 0x8000_0021, 0).eax, 1 << 8);
    assert_eq!(Caps::from_cpuid(&max).efer >> 21 & 1, 1);
    let on = [("pcid".to_owned(), true), ("auto-ibrs".to_owned(), false)];
    let with = cpuid_for_model("max", &on, &rich).unwrap();
    assert!(has(&with, "pcid"));
    assert_eq!(leaf(&with, 0x8000_0000, 0).eax, 0x8000_0008);
    assert_eq!(Caps::from_cpuid(&with).efer >> 21 & 1, 0);
}

#[test]
fn named_models_have_what_qemu_gives_them() {
    let ivy = cpuid_for_model("IvyBridge", &[], &rich).unwrap();
    assert_eq!(leaf(&ivy, 1, 0).eax, 0x0003_06a9);
    assert!(Caps::from_cpuid(&ivy).intel);
    assert!(has(&ivy, "smep") && has(&ivy, "f16c") && !has(&ivy, "avx2") && !has(&ivy, "smap"));
    let opteron = cpuid_for_model("Opteron_G1", &[], &rich).unwrap();
    assert_eq!(leaf(&opteron, 1, 0).eax, 0x0000_0f61);
    assert!(Caps::from_cpuid(&opteron).amd);
    assert!(has(&opteron, "nx") && !has(&opteron, "cx16") && !has(&opteron, "lahf-lm"));
}

#[test]
fn the_host_limits_data_instructions_only() {
    let entries = cpuid_for_model("max", &[], &poor).unwrap();
    for name in ["avx", "sse4.2", "xsave", "bmi1", "popcnt", "fsrm"] {
        assert_eq!(has(&entries, name), name == "fsrm", "{name}");
    }
    for name in ["smap", "smep", "x2apic", "rdrand", "pdpe1gb", "sse2", "pni"] {
        assert!(has(&entries, name), "{name}");
    }
    let error = cpuid_for_model("max", &changes(&[("avx2", true)]), &poor).unwrap_err();
    assert_eq!(error.errno, Errno::EOPNOTSUPP);
}

#[test]
fn names_are_spelt_as_in_qemu() {
    let on = |list: &[(&str, bool)]| cpuid_for_model("qemu64", &changes(list), &rich);
    let entries = on(&[("sse4_2", true), ("ssse3", true), ("sse4-1", true)]).unwrap();
    assert!(has(&entries, "sse4.2") && has(&entries, "sse4.1"));
    assert!(has(&on(&[("tsc_deadline", true)]).unwrap(), "tsc-deadline"));
    assert!(!has(&on(&[("sse3", false)]).unwrap(), "pni"));
    let error = on(&[("sse5.2", true)]).unwrap_err();
    assert_eq!(error.errno, Errno::EINVAL);
    assert!(error.reason.contains("sse4.2"), "{error}");
    let error = on(&[("avx512f", true)]).unwrap_err();
    assert_eq!(error.errno, Errno::EOPNOTSUPP);
    assert!(on(&[("avx512f", false), ("svm", false)]).is_ok());
    // AVX without XSAVE is nothing.
    let error = on(&[("avx", true)]).unwrap_err();
    assert!(error.reason.contains("xsave"), "{error}");
    assert!(on(&[("avx", true), ("xsave", true)]).is_ok());
    let error = cpuid_for_model("qemu46", &[], &rich).unwrap_err();
    assert!(error.reason.contains("qemu64"), "{error}");
    assert!(cpuid_for_model("max", &changes(&[("", true)]), &rich).is_err());
}

#[test]
fn switching_off_takes_dependents_along() {
    let off = changes(&[("xsave", false), ("kvmclock", false)]);
    let entries = cpuid_for_model("max", &off, &rich).unwrap();
    for name in ["avx", "avx2", "fma", "vaes", "xsavec", "kvmclock", "kvmclock-stable-bit"] {
        assert!(!has(&entries, name), "{name}");
    }
    assert_eq!(leaf(&entries, 0x4000_0001, 0).eax & 9, 0);
    let entries = cpuid_for_model("max", &changes(&[("kvm", false)]), &rich).unwrap();
    assert!(entries.iter().all(|e| e.function >> 28 != 4));
}

#[test]
fn host_passes_identity_through() {
    let entries = cpuid_for_model("host", &[], &rich).unwrap();
    assert_eq!(leaf(&entries, 1, 0).eax, 0x00a1_0f11);
    assert_eq!(leaf(&entries, 0x8000_0002, 0).eax.to_le_bytes(), *b"Host");
    assert_eq!(leaf(&entries, 0x8000_0008, 0).eax, 0x3030);
    assert!(!has(&entries, "arch-capabilities"));
    let entries = cpuid_for_model("host", &[], &poor).unwrap();
    assert!(has(&entries, "arch-capabilities"));
    assert!(Caps::from_cpuid(&entries).intel);
}

#[test]
fn the_instruction_fills_in_dynamic_parts() {
    let mut m = Machine::new();
    m.cpu.set_cpuid(&cpuid_for_model("max", &[], &rich).unwrap());
    m.cpu.id = 5;
    let (_, ebx, ecx, edx) = cpuid(&mut m, 1, 0);
    assert_eq!((ebx >> 24, ecx >> 27 & 1, edx >> 9 & 1), (5, 0, 1));
    m.cpu.cr4 |= crate::bits::cr4::OSXSAVE;
    m.cpu.apic_base &= !0x800;
    let (_, _, ecx, edx) = cpuid(&mut m, 1, 0);
    assert_eq!((ecx >> 27 & 1, edx >> 9 & 1), (1, 0));
    assert_eq!(cpuid(&mut m, 0xd, 0).1, 576);
    m.cpu.xcr0 = 7;
    assert_eq!(cpuid(&mut m, 0xd, 0).1, 832);
    m.cpu.xcr0 = 0x207;
    assert_eq!((cpuid(&mut m, 0xd, 0).1, cpuid(&mut m, 0xd, 1).1), (2696, 840));
    assert_eq!(cpuid(&mut m, 7, 0).2 >> 3 & 3, 1);
    m.cpu.cr4 |= crate::bits::cr4::PKE;
    assert_eq!(cpuid(&mut m, 7, 0).2 >> 3 & 3, 3);
    assert_eq!(cpuid(&mut m, 0xb, 0), (0, 1, 0x100, 5));
    assert_eq!(cpuid(&mut m, 0xb, 7), (0, 0, 7, 5));
    assert_eq!(cpuid(&mut m, 7, 1), (0, 0, 0, 0));
    assert_eq!(cpuid(&mut m, 0x1234, 0), (0, 0, 0, 0));
    assert_eq!(cpuid(&mut m, 0x4000_0000, 0).1.to_le_bytes(), *b"KVMK");
    assert_eq!(cpuid(&mut m, 0x8fff_ffff, 0), (0, 0, 0, 0));
    // On Intel basic leaves beyond the last give the last.
    m.cpu.set_cpuid(&cpuid_for_model("host", &[], &poor).unwrap());
    assert!(m.cpu.caps.intel);
    assert_eq!(cpuid(&mut m, 0x1234, 0), cpuid(&mut m, 0xd, 0));
}
