import type { Device } from '../device.ts'
import { flag, int, parseState, u8 } from '../machine/state.ts'
import { untold } from './unknown-command.ts'
import type { UnknownCommand } from './unknown-command.ts'

/** Ports of the host controller. */
export const SMBUS_BYTES = 64

const REG_STATUS = 0x00
const REG_CONTROL = 0x02
const REG_COMMAND = 0x03
const REG_ADDRESS = 0x04
const REG_DATA_0 = 0x05
const REG_DATA_1 = 0x06
const REG_BLOCK = 0x07
const REG_AUX_CONTROL = 0x0d

const STATUS_BUSY = 0x01
const STATUS_NO_DEVICE = 0x04
const STATUS_FAILED = 0x10

const CONTROL_INTERRUPT = 0x01
const CONTROL_KILL = 0x02
const CONTROL_START = 0x40
const AUX_WRITABLE = 0x03
const BLOCK_BYTES = 32

export interface SmbusState {
  status: number
  control: number
  command: number
  address: number
  data0: number
  data1: number
  aux: number
  block: Uint8Array
  index: number
  waits: boolean
}

/**
 * The SMBus host controller of PIIX4 and ICH9 (82371AB data sheet, 7.3) as QEMU has it, on a bus with
 * no device: whatever a driver addresses does not acknowledge, which it is told as on hardware.
 */
export class SmbusHost implements Device<SmbusState> {
  readonly #interrupt: (level: boolean) => void
  readonly #unknown: UnknownCommand
  #status = 0
  #control = 0
  #command = 0
  #address = 0
  #data0 = 0
  #data1 = 0
  #aux = 0
  readonly #block: Uint8Array = new Uint8Array(BLOCK_BYTES)
  #index = 0
  /** A transaction without interrupt ends when the driver looks at the status: it sees it busy once. */
  #waits = false

  constructor(interrupt: (level: boolean) => void, unknown: UnknownCommand = untold) {
    this.#interrupt = interrupt
    this.#unknown = unknown
  }

  reset(): void {
    this.#status = 0
    this.#control = 0
    this.#command = 0
    this.#address = 0
    this.#data0 = 0
    this.#data1 = 0
    this.#aux = 0
    this.#block.fill(0)
    this.#index = 0
    this.#waits = false
    this.#drive()
  }

  read(offset: number): number {
    switch (offset) {
      case REG_STATUS: {
        const value = this.#status
        if (this.#waits) this.#finish()
        return value
      }
      case REG_CONTROL:
        // A driver begins a block with this.
        this.#index = 0
        return this.#control
      case REG_COMMAND:
        return this.#command
      case REG_ADDRESS:
        return this.#address
      case REG_DATA_0:
        return this.#data0
      case REG_DATA_1:
        return this.#data1
      case REG_BLOCK:
        return this.#block[this.#nextIndex()]!
      case REG_AUX_CONTROL:
        return this.#aux
      default:
        return 0
    }
  }

  write(offset: number, _size: number, value: number): void {
    const byte = value & 0xff
    switch (offset) {
      case REG_STATUS:
        this.#status &= ~byte | STATUS_BUSY
        this.#drive()
        break
      case REG_CONTROL:
        this.#writeControl(byte)
        break
      case REG_COMMAND:
        this.#command = byte
        break
      case REG_ADDRESS:
        this.#address = byte
        break
      case REG_DATA_0:
        this.#data0 = byte
        break
      case REG_DATA_1:
        this.#data1 = byte
        break
      case REG_BLOCK:
        this.#block[this.#nextIndex()] = byte
        break
      case REG_AUX_CONTROL:
        this.#aux = byte & AUX_WRITABLE
        break
      default:
        break
    }
  }

  save(): SmbusState {
    return {
      status: this.#status,
      control: this.#control,
      command: this.#command,
      address: this.#address,
      data0: this.#data0,
      data1: this.#data1,
      aux: this.#aux,
      block: this.#block.slice(),
      index: this.#index,
      waits: this.#waits,
    }
  }

  load(state: SmbusState): void {
    const s = parseState<SmbusState>('smbus', state, {
      status: u8,
      control: u8,
      command: u8,
      address: u8,
      data0: u8,
      data1: u8,
      aux: int(0, AUX_WRITABLE),
      block: (value) =>
        value instanceof Uint8Array && value.length === BLOCK_BYTES ? value : undefined,
      index: int(0, BLOCK_BYTES - 1),
      waits: flag,
    })
    this.#status = s.status
    this.#control = s.control & ~CONTROL_START
    this.#command = s.command
    this.#address = s.address
    this.#data0 = s.data0
    this.#data1 = s.data1
    this.#aux = s.aux
    this.#block.set(s.block)
    this.#index = s.index
    this.#waits = s.waits
    this.#drive()
  }

  #writeControl(byte: number): void {
    this.#control = byte & ~CONTROL_START
    if ((byte & CONTROL_KILL) !== 0) {
      if (this.#waits) this.#status |= STATUS_FAILED
      this.#status &= ~STATUS_BUSY
      this.#waits = false
    } else if ((byte & CONTROL_START) !== 0) {
      this.#status |= STATUS_BUSY
      this.#waits = true
      this.#unknown('device', this.#address >> 1)
      if ((byte & CONTROL_INTERRUPT) !== 0) this.#finish()
    }
    this.#drive()
  }

  /** Nobody acknowledges the address. */
  #finish(): void {
    this.#waits = false
    this.#status = (this.#status & ~STATUS_BUSY) | STATUS_NO_DEVICE
    this.#drive()
  }

  #nextIndex(): number {
    const index = this.#index
    this.#index = (index + 1) % BLOCK_BYTES
    return index
  }

  #drive(): void {
    const isOn = (this.#control & CONTROL_INTERRUPT) !== 0
    this.#interrupt(isOn && (this.#status & ~STATUS_BUSY) !== 0)
  }
}
