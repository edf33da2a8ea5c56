import type { Key } from '../display/keys.ts'
import { flag, int, list, parseState, u8 } from '../machine/state.ts'
import { PS2_QUEUE_BYTES, Ps2Queue } from './ps2-queue.ts'
import type { Ps2Device } from './ps2-queue.ts'
import { untold } from './unknown-command.ts'
import type { UnknownCommand } from './unknown-command.ts'

const ACK = 0xfa
const RESEND = 0xfe
const SELF_TEST_PASSED = 0xaa
const CMD_SET_LEDS = 0xed
const CMD_ECHO = 0xee
const CMD_SCAN_SET = 0xf0
const CMD_IDENTIFY = 0xf2
const CMD_SET_RATE = 0xf3
const CMD_ENABLE = 0xf4
const CMD_DISABLE = 0xf5
const CMD_DEFAULTS = 0xf6
const CMD_RESEND = 0xfe
const CMD_RESET = 0xff
/** MF2 keyboard. */
const IDENTITY = [0xab, 0x83] as const

export interface Ps2KeyboardState {
  queue: number[]
  /** The command whose argument comes next; 0 for none. */
  pending: number
  scanning: boolean
  scanSet: number
  leds: number
  rate: number
  last: number
}

/** PS/2 keyboard with the command set of an MF2 keyboard. */
export class Ps2Keyboard implements Ps2Device {
  readonly #unknown: UnknownCommand
  readonly #queue: Ps2Queue
  #pending = 0
  #scanning = true
  #scanSet = 2
  #leds = 0
  #rate = 0x2b
  #last = 0

  /** `notify` is called whenever bytes become available. */
  constructor(notify: () => void, unknown: UnknownCommand = untold) {
    this.#queue = new Ps2Queue(notify)
    this.#unknown = unknown
  }

  /** Bits: 0 scroll lock, 1 num lock, 2 caps lock. */
  get leds(): number {
    return this.#leds
  }

  reset(): void {
    this.#queue.clear()
    this.#pending = 0
    this.#leds = 0
    this.#defaults()
    this.#scanning = true
  }

  save(): Ps2KeyboardState {
    return {
      queue: this.#queue.save(),
      pending: this.#pending,
      scanning: this.#scanning,
      scanSet: this.#scanSet,
      leds: this.#leds,
      rate: this.#rate,
      last: this.#last,
    }
  }

  load(state: Ps2KeyboardState): void {
    const s = parseState<Ps2KeyboardState>('keyboard', state, {
      queue: list(u8, PS2_QUEUE_BYTES),
      pending: u8,
      scanning: flag,
      scanSet: int(1, 3),
      leds: u8,
      rate: u8,
      last: u8,
    })
    this.#queue.load(s.queue)
    this.#pending = s.pending
    this.#scanning = s.scanning
    this.#scanSet = s.scanSet
    this.#leds = s.leds
    this.#rate = s.rate
    this.#last = s.last
  }

  /**
   * A key event as scan codes of set 2. Returns false when the keyboard is off or its queue full.
   */
  sendScancodes(...codes: number[]): boolean {
    return this.#scanning && this.#queue.push(...codes)
  }

  /** A key in the scan code set that the host has chosen; false when there is no room for it. */
  sendKey({ set1, set2, extended }: Key, isDown: boolean): boolean {
    // A keyboard that is off swallows keys.
    if (!this.#scanning) return true
    const codes = extended ? [0xe0] : []
    if (this.#scanSet === 1) codes.push(isDown ? set1 : set1 | 0x80)
    else if (isDown) codes.push(set2)
    else codes.push(0xf0, set2)
    return this.#queue.push(...codes)
  }

  take(): number | undefined {
    const byte = this.#queue.take()
    if (byte !== undefined) this.#last = byte
    return byte
  }

  command(byte: number): void {
    const pending = this.#pending
    this.#pending = 0
    // A byte with the top bit is a new command even where an argument was expected.
    if (pending !== 0 && byte < 0x80) return this.#argument(pending, byte)
    switch (byte) {
      case CMD_SET_LEDS:
      case CMD_SCAN_SET:
      case CMD_SET_RATE:
        this.#pending = byte
        this.#queue.reply(ACK)
        break
      case CMD_ECHO:
        this.#queue.reply(CMD_ECHO)
        break
      case CMD_IDENTIFY:
        this.#queue.reply(ACK, ...IDENTITY)
        break
      case CMD_ENABLE:
        this.#scanning = true
        this.#queue.reply(ACK)
        break
      case CMD_DISABLE:
      case CMD_DEFAULTS:
        this.#defaults()
        this.#scanning = byte === CMD_DEFAULTS
        this.#queue.reply(ACK)
        break
      case CMD_RESEND:
        this.#queue.reply(this.#last)
        break
      case CMD_RESET:
        this.#defaults()
        this.#scanning = true
        this.#queue.reply(ACK, SELF_TEST_PASSED)
        break
      default:
        this.#unknown('keyboard command', byte)
        this.#queue.reply(RESEND)
    }
  }

  #argument(command: number, value: number): void {
    if (command === CMD_SET_LEDS) this.#leds = value & 7
    if (command === CMD_SET_RATE) this.#rate = value
    if (command === CMD_SCAN_SET) {
      if (value === 0) return this.#queue.reply(ACK, this.#scanSet)
      if (value > 3) return this.#queue.reply(RESEND)
      this.#scanSet = value
    }
    this.#queue.reply(ACK)
  }

  #defaults(): void {
    this.#scanSet = 2
    this.#rate = 0x2b
  }
}
