/** Registers of a port (AHCI 1.3.1, 3.3). */
export const CLB = 0x00
export const CLBU = 0x04
export const FB = 0x08
export const FBU = 0x0c
export const IS = 0x10
export const IE = 0x14
export const CMD = 0x18
export const TFD = 0x20
export const SIG = 0x24
export const SSTS = 0x28
export const SCTL = 0x2c
export const SERR = 0x30
export const SACT = 0x34
export const CI = 0x38
/** Those that there are: the others belong to features that the controller does not claim. */
export const REGISTERS: ReadonlySet<number> = new Set([
  CLB,
  CLBU,
  FB,
  FBU,
  IS,
  IE,
  CMD,
  TFD,
  SIG,
  SSTS,
  SCTL,
  SERR,
  SACT,
  CI,
])

export const CMD_ST = 0x0001
export const CMD_CLO = 0x0008
export const CMD_FRE = 0x0010
export const CMD_FR = 0x4000
export const CMD_CR = 0x8000
/** Spun up and powered, always. */
export const CMD_FIXED = 0x0006
export const CMD_WRITABLE = 0x0f00_0011

export const IS_DHRS = 0x0000_0001
export const IS_PSS = 0x0000_0002
export const IS_PCS = 0x0000_0040
export const IS_OFS = 0x0100_0000
export const IS_HBFS = 0x2000_0000
export const IS_TFES = 0x4000_0000
export const IS_CLEARABLE = 0xfd80_00af

/** A device is there, at 1.5 Gb/s, and its interface is active. */
export const SSTS_PRESENT = 0x113
export const SERR_EXCHANGED = 0x0400_0000
export const SCTL_DET = 0x0f
export const SCTL_DET_RESET = 1
export const SIGNATURE_DISK = 0x0000_0101
export const SIGNATURE_PACKET = 0xeb14_0101
export const COMMAND_PACKET = 0xa0
