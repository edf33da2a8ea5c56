import { bytes, flag, int, list, parseState, u32 } from '../../machine/state.ts'

/** What the guest has written, in the parts that both directions need. */
export interface Rtl8139Registers {
  /** The four of the mode of before; the first two are the address of the dump of counters in C+ mode. */
  status: number[]
  address: number[]
  /** Which of them is next, and which of the rings of C+ mode. */
  currentTx: number
  currentTxRing: number
  currentRxRing: number
  /** The buffer of the mode of before: where it is, where the guest has read up to, and where the next frame goes. */
  buffer: number
  readAt: number
  writeAt: number
  command: number
  mask: number
  causes: number
  transmitConfig: number
  receiveConfig: number
  missed: number
  cplus: number
  ring: number
  ringHigh: number
  groups: number[]
  mac: number[]
  /** When sending begins; kept only. */
  threshold: number
}

/** A transmit status of the mode of before (RTL8139C+ data sheet, 5.2). */
export const TSD_OWN = 0x2000

export interface Rtl8139State extends Rtl8139Registers {
  config: Uint8Array
  /** TimerInt, and the moment from which the timer counts, in nanoseconds before now. */
  timerLimit: number
  timerAge: number
  phy: number[]
  eeprom: unknown
  counters: unknown
  /** The frame of C+ mode that is being put together. */
  partial: Uint8Array
  isBad: boolean
  /** Records that the other end has not taken. */
  pending: Uint8Array
}

const count = (value: unknown): number => (value instanceof Uint8Array ? value.length : 0)

/** Checks a saved state; `most` is the longest frame. Throws `E_STATE`. */
export function parseRtl8139(
  value: unknown,
  most: number,
): Omit<Rtl8139State, 'eeprom' | 'counters'> {
  const { partial, pending } = (value ?? {}) as Partial<Rtl8139State>
  const byte = int(0, 0xff)
  const word = int(0, 0xffff)
  const exactly = (length: number, field: typeof byte) => (given: unknown) => {
    const found = list(field, length)(given)
    return found?.length === length ? found : undefined
  }
  return parseState<Omit<Rtl8139State, 'eeprom' | 'counters'>>('rtl8139', value, {
    status: exactly(4, u32),
    address: exactly(4, u32),
    currentTx: int(0, 3),
    currentTxRing: int(0, 63),
    currentRxRing: int(0, 63),
    buffer: u32,
    readAt: word,
    writeAt: word,
    command: byte,
    mask: word,
    causes: word,
    transmitConfig: u32,
    receiveConfig: u32,
    missed: u32,
    cplus: word,
    ring: u32,
    ringHigh: u32,
    groups: exactly(8, byte),
    mac: exactly(6, byte),
    config: bytes(6),
    timerLimit: u32,
    timerAge: int(0, Number.MAX_SAFE_INTEGER),
    phy: exactly(7, word),
    threshold: byte,
    partial: bytes(Math.min(most, count(partial))),
    isBad: flag,
    pending: bytes(count(pending)),
  })
}

/** What registers hold after power-on. */
export function powerOn(mac: Uint8Array): Rtl8139Registers {
  return {
    // The host owns all four.
    status: [TSD_OWN, TSD_OWN, TSD_OWN, TSD_OWN],
    address: [0, 0, 0, 0],
    currentTx: 0,
    currentTxRing: 0,
    currentRxRing: 0,
    buffer: 0,
    readAt: 0,
    writeAt: 0,
    command: 0,
    mask: 0,
    causes: 0,
    transmitConfig: 0x7480_0000,
    receiveConfig: 0,
    missed: 0,
    cplus: 0,
    ring: 0,
    ringHigh: 0,
    groups: [0, 0, 0, 0, 0, 0, 0, 0],
    mac: [...mac],
    threshold: 0,
  }
}
