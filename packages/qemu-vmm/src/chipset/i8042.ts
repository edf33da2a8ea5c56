import type { Device, IrqLine, Latch } from '../device.ts'
import { flag, int, list, parseState, u8 } from '../machine/state.ts'
import type { Field } from '../machine/state.ts'
import { Ps2Keyboard } from './ps2-keyboard.ts'
import type { Ps2KeyboardState } from './ps2-keyboard.ts'
import { Ps2Mouse } from './ps2-mouse.ts'
import type { Ps2MouseState } from './ps2-mouse.ts'
import { BREAK_PREFIX, translateScancode } from './scancodes.ts'
import { untold } from './unknown-command.ts'
import type { UnknownCommand } from './unknown-command.ts'

const STATUS_OUTPUT_FULL = 0x01
const STATUS_SYSTEM = 0x04
const STATUS_COMMAND = 0x08
const STATUS_UNLOCKED = 0x10
const STATUS_AUX = 0x20

const MODE_KBD_INT = 0x01
const MODE_AUX_INT = 0x02
const MODE_SYSTEM = 0x04
const MODE_KBD_OFF = 0x10
const MODE_AUX_OFF = 0x20
const MODE_TRANSLATE = 0x40

const OUT_RESET = 0x01
const OUT_A20 = 0x02
const OUT_KBD_INT = 0x10
const OUT_AUX_INT = 0x20

const CMD_READ_MODE = 0x20
const CMD_WRITE_MODE = 0x60
const CMD_AUX_DISABLE = 0xa7
const CMD_AUX_ENABLE = 0xa8
const CMD_AUX_TEST = 0xa9
const CMD_SELF_TEST = 0xaa
const CMD_KBD_TEST = 0xab
const CMD_KBD_DISABLE = 0xad
const CMD_KBD_ENABLE = 0xae
const CMD_READ_INPUT = 0xc0
const CMD_READ_OUTPUT = 0xd0
const CMD_WRITE_OUTPUT = 0xd1
const CMD_WRITE_KBD_BUFFER = 0xd2
const CMD_WRITE_AUX_BUFFER = 0xd3
const CMD_WRITE_AUX = 0xd4
const CMD_A20_OFF = 0xdd
const CMD_A20_ON = 0xdf
/** Commands 0xf0..0xff pulse the output port lines whose bits are clear. */
const CMD_PULSE = 0xf0

interface ControllerState {
  mode: number
  outputPort: number
  /** The command whose argument comes next on the data port; 0 for none. */
  pending: number
  lastWasCommand: boolean
  systemFlag: boolean
  /** The byte in the output buffer, or the last one read from it. */
  data: number
  full: boolean
  fromAux: boolean
  breakSeen: boolean
  /**
   * Bytes of the controller itself that wait for the output buffer: value, or 0x100 | value for
   * aux.
   */
  replies: number[]
}

const STATE: { readonly [K in keyof ControllerState]: Field<ControllerState[K]> } = {
  mode: u8,
  outputPort: u8,
  pending: u8,
  lastWasCommand: flag,
  systemFlag: flag,
  data: u8,
  full: flag,
  fromAux: flag,
  breakSeen: flag,
  replies: list(int(0, 0x1ff), 16),
}

export interface I8042State extends ControllerState {
  keyboard: Ps2KeyboardState
  mouse: Ps2MouseState
}

/** What the controller's output lines reach. */
export interface I8042Lines {
  keyboardIrq: IrqLine
  mouseIrq: IrqLine
  /** The reset line of the processor. */
  reset(): void
  /** The status register. */
  status?: Latch
  unknown?: UnknownCommand
}

/**
 * Keyboard controller at ports 0x60 (offset 0) and 0x64 (offset 4), with its keyboard and mouse.
 * Gate A20 is only a register bit: the address line is always on, as under KVM.
 */
export class I8042 implements Device<I8042State> {
  readonly keyboard: Ps2Keyboard
  readonly mouse: Ps2Mouse
  readonly #lines: I8042Lines
  #s: ControllerState = powerOn()

  constructor(lines: I8042Lines) {
    this.#lines = lines
    const { unknown = untold } = lines
    this.keyboard = new Ps2Keyboard(() => this.#fill(), unknown)
    this.mouse = new Ps2Mouse(() => this.#fill(), unknown)
    this.#latch()
  }

  reset(): void {
    this.#s = powerOn()
    this.keyboard.reset()
    this.mouse.reset()
    this.#update()
  }

  save(): I8042State {
    return {
      ...this.#s,
      replies: [...this.#s.replies],
      keyboard: this.keyboard.save(),
      mouse: this.mouse.save(),
    }
  }

  load(state: I8042State): void {
    const s = parseState<ControllerState>('i8042', state, STATE)
    this.keyboard.load(state.keyboard)
    this.mouse.load(state.mouse)
    this.#s = s
    this.#update()
  }

  read(offset: number): number {
    return offset === 0 ? this.#readData() : this.#status()
  }

  write(offset: number, _size: number, value: number): void {
    const byte = value & 0xff
    if (offset === 0) this.#writeData(byte)
    else this.#command(byte)
    this.#latch()
  }

  #status(): number {
    const s = this.#s
    return (
      STATUS_UNLOCKED |
      (s.full ? STATUS_OUTPUT_FULL | (s.fromAux ? STATUS_AUX : 0) : 0) |
      (s.systemFlag ? STATUS_SYSTEM : 0) |
      (s.lastWasCommand ? STATUS_COMMAND : 0)
    )
  }

  #readData(): number {
    const { data } = this.#s
    this.#s.full = false
    // The line falls before the next byte raises it again: the interrupt is edge-triggered.
    this.#update()
    this.#fill()
    return data
  }

  #command(byte: number): void {
    const s = this.#s
    s.lastWasCommand = true
    s.pending = 0
    switch (byte) {
      case CMD_READ_MODE:
        return this.#reply(s.mode)
      case CMD_WRITE_MODE:
      case CMD_WRITE_OUTPUT:
      case CMD_WRITE_KBD_BUFFER:
      case CMD_WRITE_AUX_BUFFER:
      case CMD_WRITE_AUX:
        s.pending = byte
        return
      case CMD_AUX_DISABLE:
        s.mode |= MODE_AUX_OFF
        return
      case CMD_AUX_ENABLE:
        s.mode &= ~MODE_AUX_OFF
        return this.#fill()
      case CMD_AUX_TEST:
      case CMD_KBD_TEST:
        return this.#reply(0x00)
      case CMD_SELF_TEST:
        s.systemFlag = true
        return this.#reply(0x55)
      case CMD_KBD_DISABLE:
        s.mode |= MODE_KBD_OFF
        return
      case CMD_KBD_ENABLE:
        s.mode &= ~MODE_KBD_OFF
        return this.#fill()
      case CMD_READ_INPUT:
        return this.#reply(0x80)
      case CMD_READ_OUTPUT:
        return this.#reply(this.#outputPort())
      case CMD_A20_OFF:
        s.outputPort &= ~OUT_A20
        return
      case CMD_A20_ON:
        s.outputPort |= OUT_A20
        return
      default:
        if (byte < CMD_PULSE) this.#lines.unknown?.('controller command', byte)
        else if ((byte & OUT_RESET) === 0) this.#lines.reset()
    }
  }

  #writeData(byte: number): void {
    const s = this.#s
    const { pending } = s
    s.lastWasCommand = false
    s.pending = 0
    switch (pending) {
      case CMD_WRITE_MODE:
        s.mode = byte
        s.systemFlag = (byte & MODE_SYSTEM) !== 0
        this.#update()
        return this.#fill()
      case CMD_WRITE_OUTPUT:
        s.outputPort = byte
        if ((byte & OUT_RESET) === 0) this.#lines.reset()
        return
      case CMD_WRITE_KBD_BUFFER:
        return this.#reply(byte)
      case CMD_WRITE_AUX_BUFFER:
        return this.#reply(byte | 0x100)
      case CMD_WRITE_AUX:
        s.mode &= ~MODE_AUX_OFF
        return this.mouse.command(byte)
      default:
        // Talking to the keyboard switches its interface on.
        s.mode &= ~MODE_KBD_OFF
        this.keyboard.command(byte)
    }
  }

  #outputPort(): number {
    const s = this.#s
    const interrupts = s.full ? (s.fromAux ? OUT_AUX_INT : OUT_KBD_INT) : 0
    return (s.outputPort & (OUT_RESET | OUT_A20)) | interrupts
  }

  #reply(value: number): void {
    const { replies } = this.#s
    if (replies.length < 16) replies.push(value)
    this.#fill()
  }

  /**
   * Moves the next waiting byte to the output buffer: the controller first, keyboard, then mouse.
   */
  #fill(): void {
    const s = this.#s
    if (s.full) return
    const own = s.replies.shift()
    if (own !== undefined) return this.#put(own & 0xff, own >= 0x100)
    while ((s.mode & MODE_KBD_OFF) === 0) {
      const byte = this.keyboard.take()
      if (byte === undefined) break
      if ((s.mode & MODE_TRANSLATE) === 0) return this.#put(byte, false)
      if (byte === BREAK_PREFIX) {
        s.breakSeen = true
        continue
      }
      const code = translateScancode(byte) | (s.breakSeen ? 0x80 : 0)
      s.breakSeen = false
      return this.#put(code, false)
    }
    if ((s.mode & MODE_AUX_OFF) === 0) {
      const byte = this.mouse.take()
      if (byte !== undefined) this.#put(byte, true)
    }
  }

  #put(byte: number, fromAux: boolean): void {
    this.#s.data = byte
    this.#s.fromAux = fromAux
    this.#s.full = true
    this.#update()
  }

  #latch(): void {
    this.#lines.status?.(this.#status())
  }

  #update(): void {
    this.#latch()
    const { mode, full, fromAux } = this.#s
    this.#lines.keyboardIrq.set(full && !fromAux && (mode & MODE_KBD_INT) !== 0)
    this.#lines.mouseIrq.set(full && fromAux && (mode & MODE_AUX_INT) !== 0)
  }
}

function powerOn(): ControllerState {
  return {
    mode: MODE_KBD_INT | MODE_AUX_INT,
    outputPort: OUT_RESET | OUT_A20,
    pending: 0,
    lastWasCommand: true,
    systemFlag: false,
    data: 0,
    full: false,
    fromAux: false,
    breakSeen: false,
    replies: [],
  }
}
