//! The TypeScript constants are printed from the Rust ones, and the committed file must be what
//! is printed. `KVM_WRITE_ABI=1 cargo test -p kvm-vm --test typescript_abi` writes it.

use std::fmt::Write;
use std::path::Path;

use kvm_abi::{cap, control, exit, regs};

fn pascal(screaming: &str) -> String {
    screaming
        .split('_')
        .map(|word| {
            let mut chars = word.chars();
            chars.next().map_or(String::new(), |c| {
                c.to_ascii_uppercase().to_string() + &chars.as_str().to_ascii_lowercase()
            })
        })
        .collect()
}

fn camel(screaming: &str) -> String {
    let pascal = pascal(screaming);
    pascal[..1].to_ascii_lowercase() + &pascal[1..]
}

fn object(out: &mut String, doc: &str, name: &str, entries: &[(String, u64)], union: bool) {
    writeln!(out, "\n/** {doc} */\nexport const {name} = {{").unwrap();
    for (key, value) in entries {
        if *value >= 0x1000 {
            writeln!(out, "  {key}: {value:#x},").unwrap();
        } else {
            writeln!(out, "  {key}: {value},").unwrap();
        }
    }
    out.push_str("} as const\n");
    if union {
        writeln!(out, "export type {name} = (typeof {name})[keyof typeof {name}]").unwrap();
    }
}

macro_rules! entries {
    ($case:ident, $path:path: $($name:ident),* $(,)?) => {{
        use $path as module;
        [$(($case(stringify!($name)), u64::from(module::$name as u32))),*].to_vec()
    }};
}

fn render() -> String {
    let mut out = String::from(
        "// Printed from the Rust constants: see crates/vm/tests/typescript_abi.rs.\n",
    );
    object(
        &mut out,
        "Why a vCPU left the guest: `KVM_EXIT_*`. `CountReached` is not one of KVM's.",
        "ExitReason",
        &entries!(pascal, exit::reason: UNKNOWN, IO, HYPERCALL, DEBUG, HLT, MMIO, IRQ_WINDOW_OPEN,
            SHUTDOWN, FAIL_ENTRY, INTR, INTERNAL_ERROR, SYSTEM_EVENT, COUNT_REACHED),
        true,
    );
    let mut run = entries!(camel, exit::run: REQUEST_INTERRUPT_WINDOW, IMMEDIATE_EXIT, EXIT_REASON,
        READY_FOR_INTERRUPT_INJECTION, IF_FLAG, FLAGS, CR8, APIC_BASE, IO_DIRECTION, IO_SIZE,
        IO_PORT, IO_COUNT, IO_DATA_OFFSET, MMIO_PHYS_ADDR, MMIO_DATA, MMIO_LEN, MMIO_IS_WRITE,
        HYPERCALL_NR, HYPERCALL_ARGS, HYPERCALL_RET, DEBUG_EXCEPTION, DEBUG_PC, DEBUG_DR6,
        DEBUG_DR7, SYSTEM_EVENT_TYPE, SYSTEM_EVENT_NDATA, SYSTEM_EVENT_DATA, FAIL_ENTRY_REASON,
        INTERNAL_SUBERROR, INTERNAL_NDATA, INTERNAL_DATA, KVM_VALID_REGS, KVM_DIRTY_REGS,
        SYNC_REGS, SIZEOF);
    run.push(("bytes".into(), exit::RUN_BYTES as u64));
    run.push(("pioData".into(), exit::RUN_PIO_DATA_OFFSET as u64));
    object(&mut out, "Byte offsets in the `kvm_run` page.", "KVM_RUN", &run, false);

    let mut page = entries!(camel, control: PENDING, PENDING_EV, ARMED, CLOSED, IOEVENT_BITMAP,
        IOEVENT_MAX, COMPLETIONS, SLOTS, SLOT_BYTES, MAX_VCPUS, POSTED,
        POSTED_TAIL, POSTED_ENTRIES, POSTED_MAX, POSTED_BYTES, BYTES);
    page.extend(
        entries!(camel, control::slot: STATE, EXIT_SEQ, HOST_ID, SPIN_WINDOW, SPIN_HITS,
            SPIN_MISSES)
        .into_iter()
        .map(|(name, value)| (format!("slot{}{}", name[..1].to_uppercase(), &name[1..]), value)),
    );
    object(&mut out, "Byte offsets and sizes in the control page.", "CONTROL", &page, false);
    object(
        &mut out,
        "Bits of the control page's event word.",
        "CONTROL_EVENT",
        &entries!(pascal, control: EV_IOEVENT, EV_COMPLETION, EV_CONTROL, EV_POSTED)
            .into_iter()
            .map(|(name, value)| (name[2..].to_owned(), value))
            .collect::<Vec<_>>(),
        true,
    );
    object(
        &mut out,
        "Values of the state word of a vCPU's slot.",
        "SLOT_STATE",
        &entries!(pascal, control::state: IDLE, POSTED, SLEEPING, ABORTED),
        true,
    );
    object(
        &mut out,
        "`KVM_CAP_*`, for `checkExtension`.",
        "Cap",
        &cap::ALL.iter().map(|(n, v)| ((*n).to_owned(), u64::from(*v))).collect::<Vec<_>>(),
        true,
    );
    object(
        &mut out,
        "`KVM_MP_STATE_*`.",
        "MpState",
        &[
            ("Runnable".to_owned(), regs::MpState::Runnable as u64),
            ("Uninitialized".to_owned(), regs::MpState::Uninitialized as u64),
            ("InitReceived".to_owned(), regs::MpState::InitReceived as u64),
            ("Halted".to_owned(), regs::MpState::Halted as u64),
            ("SipiReceived".to_owned(), regs::MpState::SipiReceived as u64),
        ],
        true,
    );
    object(
        &mut out,
        "`KVM_GUESTDBG_*` bits.",
        "GuestDebugFlag",
        &entries!(pascal, regs::guestdbg: ENABLE, SINGLESTEP, USE_SW_BP, USE_HW_BP),
        true,
    );
    object(
        &mut out,
        "`KVM_MEM_*` bits.",
        "MemFlag",
        &[
            ("LogDirtyPages".to_owned(), u64::from(kvm_memory::MEM_LOG_DIRTY_PAGES)),
            ("Readonly".to_owned(), u64::from(kvm_memory::MEM_READONLY)),
        ],
        true,
    );
    object(
        &mut out,
        "`KVM_IRQCHIP_*`.",
        "IrqchipId",
        &[
            ("PicPrimary".to_owned(), u64::from(kvm_irqchip::KVM_IRQCHIP_PIC_PRIMARY)),
            ("PicSecondary".to_owned(), u64::from(kvm_irqchip::KVM_IRQCHIP_PIC_SECONDARY)),
            ("Ioapic".to_owned(), u64::from(kvm_irqchip::KVM_IRQCHIP_IOAPIC)),
        ],
        true,
    );
    object(
        &mut out,
        "Bits of `ClockData.flags`.",
        "ClockFlag",
        &[
            ("TscStable".to_owned(), u64::from(kvm_vm::CLOCK_TSC_STABLE)),
            ("Realtime".to_owned(), u64::from(kvm_vm::CLOCK_REALTIME)),
            ("HostTsc".to_owned(), u64::from(kvm_vm::CLOCK_HOST_TSC)),
        ],
        true,
    );
    writeln!(
        out,
        "\n/** `KVM_PIT_SPEAKER_DUMMY`: the PIT answers port 0x61. */\nexport const PIT_SPEAKER_DUMMY = {}",
        kvm_irqchip::KVM_PIT_SPEAKER_DUMMY
    )
    .unwrap();
    out
}

#[test]
fn the_committed_constants_are_these() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/generated/abi.ts");
    let text = render();
    if std::env::var_os("KVM_WRITE_ABI").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == text, "{} is out of date, see the top of this test", path.display());
}
