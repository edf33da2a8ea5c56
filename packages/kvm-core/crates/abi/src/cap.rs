//! `KVM_CAP_*` numbers that `KVM_CHECK_EXTENSION` is asked for.

macro_rules! caps {
    ($($name:ident = $value:literal $ts:literal),* $(,)?) => {
        $(#[doc = concat!("`KVM_CAP_", stringify!($name), "`.")] pub const $name: u32 = $value;)*
        /// All of them, with the spelling of the TypeScript constants.
        pub const ALL: &[(&str, u32)] = &[$(($ts, $value)),*];
    };
}

caps! {
    IRQCHIP = 0 "Irqchip",
    HLT = 1 "Hlt",
    USER_MEMORY = 3 "UserMemory",
    VAPIC = 6 "Vapic",
    EXT_CPUID = 7 "ExtCpuid",
    CLOCKSOURCE = 8 "Clocksource",
    NR_VCPUS = 9 "NrVcpus",
    NR_MEMSLOTS = 10 "NrMemslots",
    PIT = 11 "Pit",
    MP_STATE = 14 "MpState",
    COALESCED_MMIO = 15 "CoalescedMmio",
    DESTROY_MEMORY_REGION_WORKS = 21 "DestroyMemoryRegionWorks",
    USER_NMI = 22 "UserNmi",
    SET_GUEST_DEBUG = 23 "SetGuestDebug",
    IRQ_ROUTING = 25 "IrqRouting",
    JOIN_MEMORY_REGIONS_WORKS = 30 "JoinMemoryRegionsWorks",
    IRQFD = 32 "Irqfd",
    PIT2 = 33 "Pit2",
    PIT_STATE2 = 35 "PitState2",
    IOEVENTFD = 36 "Ioeventfd",
    ADJUST_CLOCK = 39 "AdjustClock",
    INTERNAL_ERROR_DATA = 40 "InternalErrorData",
    VCPU_EVENTS = 41 "VcpuEvents",
    DEBUGREGS = 50 "Debugregs",
    XSAVE = 55 "Xsave",
    XCRS = 56 "Xcrs",
    TSC_CONTROL = 60 "TscControl",
    GET_TSC_KHZ = 61 "GetTscKhz",
    MAX_VCPUS = 66 "MaxVcpus",
    SYNC_REGS = 74 "SyncRegs",
    SIGNAL_MSI = 77 "SignalMsi",
    READONLY_MEM = 81 "ReadonlyMem",
    IRQFD_RESAMPLE = 82 "IrqfdResample",
    IOEVENTFD_NO_LENGTH = 100 "IoeventfdNoLength",
    X86_SMM = 117 "X86Smm",
    MULTI_ADDRESS_SPACE = 118 "MultiAddressSpace",
    IOEVENTFD_ANY_LENGTH = 122 "IoeventfdAnyLength",
    MAX_VCPU_ID = 128 "MaxVcpuId",
    X2APIC_API = 129 "X2apicApi",
    IMMEDIATE_EXIT = 136 "ImmediateExit",
    MANUAL_DIRTY_LOG_PROTECT2 = 168 "ManualDirtyLogProtect2",
}
