import { ALL, RegisterMap, type Span, counters, pair, span } from './register-map.ts'

/** Offsets of registers (Intel 8254x Software Developer's Manual, chapter 13). */
export const CTRL = 0x0000
export const STATUS = 0x0008
export const EECD = 0x0010
export const EERD = 0x0014
export const MDIC = 0x0020
export const VET = 0x0038
export const ICR = 0x00c0
export const ITR = 0x00c4
export const ICS = 0x00c8
export const IMS = 0x00d0
export const IMC = 0x00d8
export const RCTL = 0x0100
export const TCTL = 0x0400
export const LEDCTL = 0x0e00
export const PBA = 0x1000
export const RDBAL = 0x2800
export const RDBAH = 0x2804
export const RDLEN = 0x2808
export const RDH = 0x2810
export const RDT = 0x2818
export const TDBAL = 0x3800
export const TDBAH = 0x3804
export const TDLEN = 0x3808
export const TDH = 0x3810
export const TDT = 0x3818
export const MPC = 0x4010
export const PRC64 = 0x405c
export const GPRC = 0x4074
export const BPRC = 0x4078
export const MPRC = 0x407c
export const GPTC = 0x4080
export const GORCL = 0x4088
export const GOTCL = 0x4090
export const RNBC = 0x40a0
export const ROC = 0x40ac
export const TORL = 0x40c0
export const TOTL = 0x40c8
export const TPR = 0x40d0
export const TPT = 0x40d4
export const PTC64 = 0x40d8
export const MPTC = 0x40f0
export const BPTC = 0x40f4
export const TSCTC = 0x40f8
export const MTA = 0x5200
export const RA = 0x5400
export const VFTA = 0x5600
export const MANC = 0x5820

/** Bytes of the memory BAR. */
export const REGISTER_BYTES = 0x2_0000
/** Pairs of registers with addresses to receive. */
export const RECEIVE_ADDRESSES = 16
/** An address register that counts, in its high half. */
export const RAH_AV = 0x8000_0000

export const CTRL_RST = 0x0400_0000
export const CTRL_VME = 0x4000_0000
export const STATUS_LU = 0x02
export const RCTL_EN = 0x02
export const TCTL_EN = 0x02
export const TCTL_PSP = 0x08

/** Interrupt causes. */
export const CAUSE_TXDW = 0x01
export const CAUSE_TXQE = 0x02
export const CAUSE_LSC = 0x04
export const CAUSE_RXDMT0 = 0x10
export const CAUSE_RXO = 0x40
export const CAUSE_RXT0 = 0x80
export const CAUSE_MDAC = 0x200

/** Everything that is there, as QEMU 7.2 has it. What is missing reads 0 and takes nothing. */
const SPANS: readonly Span[] = [
  span(CTRL, ALL & ~CTRL_RST),
  span(STATUS, 0),
  span(EECD, 0),
  span(EERD, ALL),
  span(MDIC, 0),
  span(VET, ALL),
  span(ICR, 0),
  span(ITR, 0xffff),
  span(ICS, 0),
  span(IMS, 0),
  span(RCTL, ALL),
  span(TCTL, ALL),
  // AIT
  span(0x0458, 0xffff),
  span(LEDCTL, ALL),
  span(PBA, ALL),
  // The FIFOs of both directions: RDFH, RDFT, RDFHS, RDFTS, RDFPC, and TDFH, TDFT, TDFHS, TDFTS, TDFPC.
  ...[0x2410, 0x2418, 0x2420, 0x2428, 0x2430].map((at) => span(at, 0x1fff)),
  span(0x3410, 0x7ff),
  span(0x3418, 0x7ff),
  ...[0x3420, 0x3428, 0x3430].map((at) => span(at, 0x1fff)),
  span(RDBAL, ALL),
  span(RDBAH, ALL),
  span(RDLEN, 0xf_ff80),
  span(RDH, 0xffff),
  span(RDT, 0xffff),
  // RDTR, RADV
  span(0x2820, 0xffff),
  span(0x282c, 0xffff),
  span(TDBAL, ALL),
  span(TDBAH, ALL),
  span(TDLEN, 0xf_ff80),
  span(TDH, 0xffff),
  span(TDT, 0xffff),
  // TXDCTL, TADV
  span(0x3828, ALL),
  span(0x382c, 0xffff),
  // Statistics; FCRUC among them can be written.
  counters(0x4000, 9),
  counters(0x4028, 1),
  counters(0x4030, 5),
  counters(0x4048, 4),
  span(0x4058, ALL),
  counters(PRC64, 10),
  ...pair(GORCL),
  ...pair(GOTCL),
  counters(RNBC, 8),
  ...pair(TORL),
  ...pair(TOTL),
  counters(TPR, 12),
  span(MTA, ALL, 128),
  span(RA, ALL, 2 * RECEIVE_ADDRESSES),
  span(VFTA, ALL, 128),
  // Waking and management: WUC, WUFC, WUS, MANC, IPAV, IP4AT, IP6AT, WUPM, SWSM, FFLT, FFMT, FFVT.
  span(0x5800, ALL),
  span(0x5808, ALL),
  span(0x5810, ALL),
  span(MANC, 0),
  span(0x5838, ALL),
  span(0x5840, ALL, 7),
  span(0x5880, ALL, 4),
  span(0x5a00, ALL, 32),
  span(0x5b50, ALL),
  span(0x5f00, 0x7ff, 7),
  span(0x9000, 0x0f, 255),
  span(0x9800, ALL, 255),
  // PBM
  span(0x1_0000, ALL, 16_384),
]

/** The kind of the register at an offset, a multiple of 4; undefined where there is none. */
export function registerAt(offset: number): Span | undefined {
  return MAP.at(offset)
}

const MAP = new RegisterMap(SPANS)

/** What registers hold after a reset, besides addresses and the link. */
export const POWER_ON: readonly (readonly [number, number])[] = [
  [PBA, 0x0010_0030],
  [LEDCTL, 0x0000_0602],
  [CTRL, 0x0014_0240],
  [STATUS, 0x8008_0783],
  [MANC, 0x0022_2300],
  [VET, 0x8100],
]
