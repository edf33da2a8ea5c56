// Printed from the Rust constants: see crates/vm/tests/typescript_abi.rs.

/** Why a vCPU left the guest: `KVM_EXIT_*`. `CountReached` is not one of KVM's. */
export const ExitReason = {
  Unknown: 0,
  Io: 2,
  Hypercall: 3,
  Debug: 4,
  Hlt: 5,
  Mmio: 6,
  IrqWindowOpen: 7,
  Shutdown: 8,
  FailEntry: 9,
  Intr: 10,
  InternalError: 17,
  SystemEvent: 24,
  CountReached: 256,
} as const
export type ExitReason = (typeof ExitReason)[keyof typeof ExitReason]

/** Byte offsets in the `kvm_run` page. */
export const KVM_RUN = {
  requestInterruptWindow: 0,
  immediateExit: 1,
  exitReason: 8,
  readyForInterruptInjection: 12,
  ifFlag: 13,
  flags: 14,
  cr8: 16,
  apicBase: 24,
  ioDirection: 32,
  ioSize: 33,
  ioPort: 34,
  ioCount: 36,
  ioDataOffset: 40,
  mmioPhysAddr: 32,
  mmioData: 40,
  mmioLen: 48,
  mmioIsWrite: 52,
  hypercallNr: 32,
  hypercallArgs: 40,
  hypercallRet: 88,
  debugException: 32,
  debugPc: 40,
  debugDr6: 48,
  debugDr7: 56,
  systemEventType: 32,
  systemEventNdata: 36,
  systemEventData: 40,
  failEntryReason: 32,
  internalSuberror: 32,
  internalNdata: 36,
  internalData: 40,
  kvmValidRegs: 288,
  kvmDirtyRegs: 296,
  syncRegs: 304,
  sizeof: 2352,
  bytes: 0x2000,
  pioData: 0x1000,
} as const

/** Byte offsets and sizes in the control page. */
export const CONTROL = {
  pending: 0,
  pendingEv: 32,
  armed: 64,
  closed: 128,
  ioeventBitmap: 256,
  ioeventMax: 0x1000,
  completions: 2048,
  slots: 0x1000,
  slotBytes: 128,
  maxVcpus: 256,
  posted: 0x9000,
  postedTail: 64,
  postedEntries: 128,
  postedMax: 256,
  postedBytes: 32,
  bytes: 0xb080,
  slotState: 0,
  slotExitSeq: 4,
  slotHostId: 8,
  slotSpinWindow: 12,
  slotSpinHits: 16,
  slotSpinMisses: 20,
} as const

/** Bits of the control page's event word. */
export const CONTROL_EVENT = {
  Ioevent: 1,
  Completion: 2,
  Control: 4,
  Posted: 8,
} as const
export type CONTROL_EVENT = (typeof CONTROL_EVENT)[keyof typeof CONTROL_EVENT]

/** Values of the state word of a vCPU's slot. */
export const SLOT_STATE = {
  Idle: 0,
  Posted: 1,
  Sleeping: 2,
  Aborted: 3,
} as const
export type SLOT_STATE = (typeof SLOT_STATE)[keyof typeof SLOT_STATE]

/** `KVM_CAP_*`, for `checkExtension`. */
export const Cap = {
  Irqchip: 0,
  Hlt: 1,
  UserMemory: 3,
  Vapic: 6,
  ExtCpuid: 7,
  Clocksource: 8,
  NrVcpus: 9,
  NrMemslots: 10,
  Pit: 11,
  MpState: 14,
  CoalescedMmio: 15,
  DestroyMemoryRegionWorks: 21,
  UserNmi: 22,
  SetGuestDebug: 23,
  IrqRouting: 25,
  JoinMemoryRegionsWorks: 30,
  Irqfd: 32,
  Pit2: 33,
  PitState2: 35,
  Ioeventfd: 36,
  AdjustClock: 39,
  InternalErrorData: 40,
  VcpuEvents: 41,
  Debugregs: 50,
  Xsave: 55,
  Xcrs: 56,
  TscControl: 60,
  GetTscKhz: 61,
  MaxVcpus: 66,
  SyncRegs: 74,
  SignalMsi: 77,
  ReadonlyMem: 81,
  IrqfdResample: 82,
  IoeventfdNoLength: 100,
  X86Smm: 117,
  MultiAddressSpace: 118,
  IoeventfdAnyLength: 122,
  MaxVcpuId: 128,
  X2apicApi: 129,
  ImmediateExit: 136,
  ManualDirtyLogProtect2: 168,
} as const
export type Cap = (typeof Cap)[keyof typeof Cap]

/** `KVM_MP_STATE_*`. */
export const MpState = {
  Runnable: 0,
  Uninitialized: 1,
  InitReceived: 2,
  Halted: 3,
  SipiReceived: 4,
} as const
export type MpState = (typeof MpState)[keyof typeof MpState]

/** `KVM_GUESTDBG_*` bits. */
export const GuestDebugFlag = {
  Enable: 1,
  Singlestep: 2,
  UseSwBp: 0x10000,
  UseHwBp: 0x20000,
} as const
export type GuestDebugFlag = (typeof GuestDebugFlag)[keyof typeof GuestDebugFlag]

/** `KVM_MEM_*` bits. */
export const MemFlag = {
  LogDirtyPages: 1,
  Readonly: 2,
} as const
export type MemFlag = (typeof MemFlag)[keyof typeof MemFlag]

/** `KVM_IRQCHIP_*`. */
export const IrqchipId = {
  PicPrimary: 0,
  PicSecondary: 1,
  Ioapic: 2,
} as const
export type IrqchipId = (typeof IrqchipId)[keyof typeof IrqchipId]

/** Bits of `ClockData.flags`. */
export const ClockFlag = {
  TscStable: 2,
  Realtime: 4,
  HostTsc: 8,
} as const
export type ClockFlag = (typeof ClockFlag)[keyof typeof ClockFlag]

/** `KVM_PIT_SPEAKER_DUMMY`: the PIT answers port 0x61. */
export const PIT_SPEAKER_DUMMY = 1
