import { flag, int, list, parseState, u8 } from '../machine/state.ts'
import { PS2_QUEUE_BYTES, Ps2Queue } from './ps2-queue.ts'
import type { Ps2Device } from './ps2-queue.ts'
import { untold } from './unknown-command.ts'
import type { UnknownCommand } from './unknown-command.ts'

const ACK = 0xfa
const ERROR = 0xfc
const SELF_TEST_PASSED = 0xaa
const CMD_SCALE_1_1 = 0xe6
const CMD_SCALE_2_1 = 0xe7
const CMD_SET_RESOLUTION = 0xe8
const CMD_STATUS = 0xe9
const CMD_STREAM = 0xea
const CMD_POLL = 0xeb
const CMD_END_WRAP = 0xec
const CMD_WRAP = 0xee
const CMD_REMOTE = 0xf0
const CMD_IDENTIFY = 0xf2
const CMD_SET_RATE = 0xf3
const CMD_ENABLE = 0xf4
const CMD_DISABLE = 0xf5
const CMD_DEFAULTS = 0xf6
const CMD_RESET = 0xff

const ID_PLAIN = 0
const ID_WHEEL = 3
const ID_EXPLORER = 4
/**
 * The sample rates that switch a mouse with a wheel, then one with five buttons, to its packets.
 */
const KNOCK_WHEEL = [200, 100, 80] as const
const KNOCK_EXPLORER = [200, 200, 80] as const

export interface Ps2MouseState {
  queue: number[]
  pending: number
  reporting: boolean
  remote: boolean
  wrap: boolean
  scale2: boolean
  resolution: number
  rate: number
  /** The last three sample rates. */
  knock: number[]
  id: number
  buttons: number
}

/** PS/2 mouse with wheel and five buttons (IntelliMouse Explorer protocol). */
export class Ps2Mouse implements Ps2Device {
  readonly #unknown: UnknownCommand
  readonly #queue: Ps2Queue
  #s: Omit<Ps2MouseState, 'queue'> = powerOn()

  /** `notify` is called whenever bytes become available. */
  constructor(notify: () => void, unknown: UnknownCommand = untold) {
    this.#queue = new Ps2Queue(notify)
    this.#unknown = unknown
  }

  reset(): void {
    this.#queue.clear()
    this.#s = powerOn()
  }

  save(): Ps2MouseState {
    return { ...this.#s, knock: [...this.#s.knock], queue: this.#queue.save() }
  }

  load(state: Ps2MouseState): void {
    const { queue, ...s } = parseState<Ps2MouseState>('mouse', state, {
      queue: list(u8, PS2_QUEUE_BYTES),
      pending: u8,
      reporting: flag,
      remote: flag,
      wrap: flag,
      scale2: flag,
      resolution: u8,
      rate: u8,
      knock: list(u8, 3),
      id: int(0, ID_EXPLORER),
      buttons: int(0, 0x1f),
    })
    this.#queue.load(queue)
    this.#s = s
  }

  /**
   * Movement in counts (right and up are positive), wheel steps, and buttons (bit 0 left, 1 right,
   * 2 middle, 3 and 4 side). Returns false when the mouse does not report or its queue is full.
   */
  move(dx: number, dy: number, dz: number, buttons: number): boolean {
    this.#s.buttons = buttons & 0x1f
    if (!this.#s.reporting || this.#s.remote) return false
    return this.#queue.push(...this.#packet(dx, dy, dz))
  }

  take(): number | undefined {
    return this.#queue.take()
  }

  command(byte: number): void {
    const s = this.#s
    if (s.wrap && byte !== CMD_END_WRAP && byte !== CMD_RESET) return this.#queue.reply(byte)
    const { pending } = s
    s.pending = 0
    if (pending === CMD_SET_RATE) return this.#setRate(byte)
    if (pending === CMD_SET_RESOLUTION) {
      s.resolution = byte
      return this.#queue.reply(ACK)
    }
    switch (byte) {
      case CMD_SCALE_1_1:
      case CMD_SCALE_2_1:
        s.scale2 = byte === CMD_SCALE_2_1
        break
      case CMD_SET_RESOLUTION:
      case CMD_SET_RATE:
        s.pending = byte
        break
      case CMD_STATUS:
        return this.#queue.reply(ACK, this.#status(), s.resolution, s.rate)
      case CMD_STREAM:
      case CMD_REMOTE:
        s.remote = byte === CMD_REMOTE
        break
      case CMD_POLL:
        return this.#queue.reply(ACK, ...this.#packet(0, 0, 0))
      case CMD_END_WRAP:
      case CMD_WRAP:
        s.wrap = byte === CMD_WRAP
        break
      case CMD_IDENTIFY:
        return this.#queue.reply(ACK, s.id)
      case CMD_ENABLE:
      case CMD_DISABLE:
        s.reporting = byte === CMD_ENABLE
        break
      case CMD_DEFAULTS:
        this.#s = { ...powerOn(), id: s.id, knock: s.knock, buttons: s.buttons }
        break
      case CMD_RESET:
        this.#s = { ...powerOn(), buttons: s.buttons }
        return this.#queue.reply(ACK, SELF_TEST_PASSED, ID_PLAIN)
      default:
        this.#unknown('mouse command', byte)
        return this.#queue.reply(ERROR)
    }
    this.#queue.reply(ACK)
  }

  #setRate(rate: number): void {
    const s = this.#s
    s.rate = rate
    s.knock = [...s.knock, rate].slice(-3)
    const knocked = (rates: readonly number[]): boolean => rates.every((r, i) => s.knock[i] === r)
    if (knocked(KNOCK_WHEEL)) s.id = ID_WHEEL
    if (knocked(KNOCK_EXPLORER)) s.id = ID_EXPLORER
    this.#queue.reply(ACK)
  }

  #status(): number {
    const { remote, reporting, scale2, buttons } = this.#s
    // The status byte has left and right the other way round than the packets.
    const order = ((buttons & 1) << 2) | ((buttons & 4) >> 1) | ((buttons & 2) >> 1)
    return (remote ? 0x40 : 0) | (reporting ? 0x20 : 0) | (scale2 ? 0x10 : 0) | order
  }

  #packet(dx: number, dy: number, dz: number): number[] {
    const { buttons, id } = this.#s
    const x = clamp(dx, -256, 255)
    const y = clamp(dy, -256, 255)
    const head = 0x08 | (x < 0 ? 0x10 : 0) | (y < 0 ? 0x20 : 0) | (buttons & 7)
    const packet = [head, x & 0xff, y & 0xff]
    if (id === ID_WHEEL) packet.push(clamp(dz, -128, 127) & 0xff)
    if (id === ID_EXPLORER) packet.push((clamp(dz, -8, 7) & 0x0f) | ((buttons & 0x18) << 1))
    return packet
  }
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, Math.trunc(value)))
}

function powerOn(): Omit<Ps2MouseState, 'queue'> {
  return {
    pending: 0,
    reporting: false,
    remote: false,
    wrap: false,
    scale2: false,
    resolution: 2,
    rate: 100,
    knock: [],
    id: ID_PLAIN,
    buttons: 0,
  }
}
