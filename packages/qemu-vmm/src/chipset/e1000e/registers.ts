import { ALL, RegisterMap, type Span, counters, pair, span } from '../e1000/register-map.ts'

/**
 * Offsets of the registers that the 82540EM has not, or has for another purpose (Intel 82574 data sheet, chapter 10). The
 * others are those of `e1000/registers.ts`.
 */
export const CTRL_DUP = 0x0004
export const CTRL_EXT = 0x0018
export const IAM = 0x00e0
export const EIAC = 0x00dc
export const IVAR = 0x00e4
/** Five of them: ITR of the vectors. */
export const EITR = 0x00e8
export const EEWR = 0x102c
export const PSRCTL = 0x2170
export const RXDCTL = 0x2828
export const RXDCTL1 = 0x2928
export const RSRPD = 0x2c00
export const TARC0 = 0x3840
export const IAC = 0x4100
export const RXCSUM = 0x5000
export const RFCTL = 0x5008
export const MRQC = 0x5818
export const GCR = 0x5b00
export const SWSM = 0x5b50
export const PBACLR = 0x5b68
export const RETA = 0x5c00
export const RSSRK = 0x5c80

/** How far the second queues' registers are behind those of the first. */
export const QUEUE_OFFSET = 0x100

export const CTRL_MASTER_DISABLE = 0x04
export const CTRL_FULL_DUPLEX = 0x01
export const CTRL_SPEED = 0x0300
export const CTRL_FORCE_SPEED = 0x0800
export const CTRL_FORCE_DUPLEX = 0x1000
export const CTRL_RFCE = 0x0800_0000
export const CTRL_TFCE = 0x1000_0000
export const CTRL_PHY_RST = 0x8000_0000
export const CTRL_EXT_SPEED_BYPASS = 0x8000
export const CTRL_EXT_EIAME = 0x0100_0000
export const CTRL_EXT_IAME = 0x0800_0000
export const CTRL_EXT_PBA_CLR = 0x8000_0000
/** The PHY was reset. */
export const STATUS_PHYRA = 0x0400
export const STATUS_MASTER = 0x0008_0000
export const TARC_ENABLE = 0x0400
export const RCTL_LOOP_MASK = 0xc0
export const RCTL_LOOP_MAC = 0x40
/** Interrupt at every write-back of a transmit descriptor. */
export const IVAR_EVERY_WRITE_BACK = 0x8000_0000
const RAH_BITS = 0x8003_ffff
const GCR_READ_ONLY = 0x0680_0000

/** Interrupt causes, beside those of the 82540EM (10.2.4.1). */
export const CAUSE_SRPD = 0x1_0000
export const CAUSE_ACK = 0x2_0000
export const CAUSE_MNG = 0x4_0000
export const CAUSE_RXQ0 = 0x10_0000
export const CAUSE_RXQ1 = 0x20_0000
export const CAUSE_TXQ0 = 0x40_0000
export const CAUSE_TXQ1 = 0x80_0000
export const CAUSE_OTHER = 0x100_0000
export const ASSERTED = 0x8000_0000
/**
 * The causes that can be let through: those of QEMU, and all of the lowest ten, which drivers try one by one when they test
 * the card.
 */
export const IMS_WRITABLE = 0x01f7_83ff

/** Two registers of a ring's address, then length, head and tail. */
const ring = (base: number): Span[] => [
  span(base, 0xffff_fff0),
  span(base + 4, ALL),
  span(base + 8, 0xf_ff80),
  span(base + 0x10, 0xffff),
  span(base + 0x18, 0xffff),
]

/**
 * Everything that is there, as QEMU 7.2 has it, but for TXCW, and that all counters begin anew when they are read, as the data sheet
 * says of them (10.2.7). What is missing reads 0 and takes nothing.
 */
const SPANS: readonly Span[] = [
  // CTRL and its double, of which a reset takes care.
  span(0x0000, ALL & ~0x0400_0000),
  span(CTRL_DUP, 0),
  span(0x0008, 0),
  // EECD, EERD, CTRL_EXT, FLA, MDIC.
  span(0x0010, 0),
  span(0x0014, 0),
  span(CTRL_EXT, 0xffff_cfff),
  span(0x001c, ALL),
  span(0x0020, 0),
  // FCAL, FCAH, FCT, VET.
  span(0x0028, ALL),
  span(0x002c, 0xffff),
  span(0x0030, 0xffff),
  span(0x0038, 0xffff),
  // ICR, ITR, ICS, IMS, EIAC, IAM, IVAR, EITR.
  span(0x00c0, 0),
  span(0x00c4, 0xffff),
  span(0x00c8, 0),
  span(0x00d0, 0),
  span(EIAC, ALL),
  span(IAM, ALL),
  span(IVAR, ALL),
  span(EITR, 0xffff, 5),
  // RCTL, FCTTV, TXCW, TCTL, TIPG, AIT, LEDCTL, EXTCNF_CTRL, EXTCNF_SIZE, POEMB, PBA, PBS.
  span(0x0100, ALL),
  span(0x0170, 0xffff),
  // QEMU has none; it does nothing on copper, but is tested by drivers.
  span(0x0178, 0xffff),
  span(0x0400, ALL),
  span(0x0410, ALL),
  span(0x0458, 0xffff),
  span(0x0e00, ALL),
  span(0x0f00, ALL),
  span(0x0f08, ALL),
  span(0x0f10, ALL),
  span(0x1000, ALL),
  span(0x1008, 0x3f),
  // Management of the NVM and the flash.
  span(0x1010, ALL),
  span(0x1028, 0xffff),
  span(EEWR, 0),
  span(0x1030, ALL, 4),
  span(0x1050, ALL),
  // FCRTL, FCRTH, PSRCTL, and the FIFO of receiving.
  span(0x2160, 0x8000_fff8),
  span(0x2168, 0xfff8),
  span(PSRCTL, ALL),
  ...[0x2410, 0x2418, 0x2420, 0x2428, 0x2430].map((at) => span(at, 0x1fff)),
  ...ring(0x2800),
  // RDTR, RXDCTL, RADV.
  span(0x2820, 0xffff),
  span(RXDCTL, ALL),
  span(0x282c, 0xffff),
  ...ring(0x2900),
  span(RXDCTL1, ALL),
  span(RSRPD, 0xfff),
  span(0x2c08, 0xffff),
  ...[0x3410, 0x3418, 0x3420, 0x3428, 0x3430].map((at) => span(at, 0x1fff)),
  ...ring(0x3800),
  // TIDV, TXDCTL, TADV, TARC.
  span(0x3820, 0xffff),
  span(0x3828, ALL),
  span(0x382c, 0xffff),
  span(TARC0, 0x7800_07ff),
  ...ring(0x3900),
  span(0x3928, ALL),
  span(TARC0 + QUEUE_OFFSET, 0x7800_07ff),
  // Statistics; FCRUC among them can be written.
  counters(0x4000, 22),
  span(0x4058, ALL),
  counters(0x405c, 11),
  ...pair(0x4088),
  ...pair(0x4090),
  counters(0x40a0, 8),
  ...pair(0x40c0),
  ...pair(0x40c8),
  counters(0x40d0, 12),
  counters(IAC, 10),
  span(RXCSUM, ALL),
  span(RFCTL, ALL),
  // Times that are on the cable, MAVTV0 to MAVTV3.
  span(0x5010, ALL, 4),
  span(0x5200, ALL, 128),
  // Addresses: of the upper halves QEMU keeps all bits, the card only those that have a meaning (10.2.5.19).
  ...Array.from({ length: 16 }, (_, i) => [
    span(0x5400 + 8 * i, ALL),
    span(0x5404 + 8 * i, RAH_BITS),
  ]).flat(),
  span(0x5600, ALL, 128),
  // Waking and management.
  span(0x5800, ALL),
  span(0x5808, ALL),
  span(0x5810, ALL),
  span(MRQC, ALL),
  span(0x5820, ALL, 3),
  span(0x5830, ALL),
  span(0x5838, ALL),
  span(0x5840, ALL, 7),
  span(0x5860, ALL),
  span(0x5880, ALL, 12),
  span(0x5a00, ALL, 32),
  span(GCR, ALL),
  span(0x5b08, ALL),
  span(0x5b10, ALL, 9),
  span(SWSM, ALL),
  span(0x5b64, ALL),
  span(PBACLR, 0x1f),
  span(RETA, ALL, 32),
  span(RSSRK, ALL, 32),
  span(0x5f00, 0x7ff, 11),
  span(0x5f40, 0xffff),
  span(0x9000, 0x0f, 255),
  span(0x9400, ALL, 255),
  span(0x9800, ALL, 255),
  // Time stamps.
  span(0xb600, ALL, 15),
  // PBM
  span(0x1_0000, ALL, 10_240),
]

const MAP = new RegisterMap(SPANS)

/** The kind of the register at an offset, a multiple of 4; undefined where there is none. */
export function registerAt(offset: number): Span | undefined {
  return MAP.at(offset)
}

/** Places where registers are, too: [first, last, distance] (10.2.1, and the 82542 that they are from). */
const ALIASES: readonly (readonly [number, number, number])[] = [
  [0x0040, 0x00bc, 0x53c0],
  [0x0108, 0x0108, 0x2718],
  [0x0110, 0x0118, 0x26f0],
  [0x0120, 0x0128, 0x26f0],
  [0x0160, 0x0160, 0x2008],
  [0x0168, 0x0168, 0x1ff8],
  [0x0420, 0x0428, 0x33e0],
  [0x0430, 0x0440, 0x33e0],
  [0x0600, 0x07fc, 0x5000],
  [0x8000, 0x8008, -0x5bf0],
  [0x8010, 0x8018, -0x4c00],
]

/** Where a register is of which an access names another place. */
export function placeOf(offset: number): number {
  if (offset >= 0x0800 && offset < 0x8000) return offset
  for (const [first, last, by] of ALIASES) if (offset >= first && offset <= last) return offset + by
  return offset
}

/** What of GCR stays when it is written. */
export function keptGcr(value: number): number {
  return ((value & ~GCR_READ_ONLY) | GCR_READ_ONLY) >>> 0
}

/** What registers hold after a reset, besides addresses and the link. */
export const POWER_ON: readonly (readonly [number, number])[] = [
  [0x0000, 0x0014_0241],
  [0x0010, 0x0000_0300],
  [0x0014, 0x0000_0002],
  [0x0038, 0x0000_8100],
  [0x0410, 0x0060_2008],
  [0x0e00, 0x0006_8302],
  [0x0f00, 0x0000_0008],
  [0x0f10, 0x0000_030d],
  [0x1000, 0x0014_0014],
  [0x1008, 0x0000_0028],
  [0x1010, 0x8000_0000],
  [0x1028, 0x0000_0002],
  [EEWR, 0x0000_0002],
  [0x1030, 0xc000_0000],
  [0x1050, 0x0000_0001],
  [PSRCTL, 0x0004_0402],
  [RXDCTL, 0x0001_0000],
  [RXDCTL1, 0x0001_0000],
  [0x3410, 0x0000_0600],
  [0x3418, 0x0000_0600],
  [0x3420, 0x0000_0600],
  [0x3428, 0x0000_0600],
  [TARC0, 0x0000_0403],
  [TARC0 + QUEUE_OFFSET, 0x0000_0403],
  [RXCSUM, 0x0000_0300],
  [0x5820, 0x1000_0000],
  [GCR, 0x0680_0200],
  [0x5b30, 0x2000_0004],
  [SWSM, 0x0000_0001],
  [0xb634, 0x0000_88f7],
  [0xb638, 0x0000_0319],
]
