import type { GuestMemory } from 'kvm-core'

import type { Device } from '../device.ts'
import { dmaWrite } from '../machine/dma.ts'
import { bytes, flag, list, parseState, u16, u8 } from '../machine/state.ts'
import type { Field } from '../machine/state.ts'

interface Channel {
  baseAddress: number
  baseCount: number
  address: number
  count: number
  mode: number
}

interface ControllerState {
  addresses: number[]
  counts: number[]
  baseAddresses: number[]
  baseCounts: number[]
  modes: number[]
  highByte: boolean
  mask: number
  status: number
  command: number
}

/** What a device has of its DMA channel. */
export interface DmaChannel {
  /** Calls `fn` when the channel may move data, at once or later, with the bytes that it moves at most. */
  request(fn: (bytes: number) => void): void
  /** Takes a request back. */
  cancel(): void
  /** Moves bytes to memory, as many as the channel still wants; nothing in the other direction. */
  toMemory(data: Uint8Array): void
  /** Fills bytes from memory. */
  fromMemory(target: Uint8Array): void
}

const MODE_DOWN = 0x20
const MODE_AUTO = 0x10
const MODE_TYPE = 0x0c
const MODE_TO_MEMORY = 0x04
const MODE_FROM_MEMORY = 0x08
const COMMAND_DISABLED = 0x04
/** A channel stays within 64 KiB: its page register does not count. */
const PAGE_BYTES = 0x1_0000

/** One 8237: four channels of address and count. */
class Controller {
  #channels: Channel[] = []
  #highByte = false
  #mask = 0x0f
  #status = 0
  #command = 0
  /** Told when a channel is unmasked. */
  onUnmask: () => void = () => {}

  constructor() {
    this.clear()
  }

  isReady(channel: number): boolean {
    return (this.#mask & (1 << channel)) === 0 && (this.#command & COMMAND_DISABLED) === 0
  }

  /** Bytes until the terminal count. */
  bytesLeft(channel: number): number {
    return this.#channels[channel]!.count + 1
  }

  /**
   * Moves up to `length` bytes, in runs that go up in memory: `copy` gets the address in the page and where
   * in the data the run begins.
   */
  move(
    channel: number,
    type: number,
    length: number,
    copy: (address: number, at: number, bytes: number) => void,
  ): void {
    const c = this.#channels[channel]!
    const bytes = Math.min(length, c.count + 1)
    const isDown = (c.mode & MODE_DOWN) !== 0
    if ((c.mode & MODE_TYPE) === type) {
      for (let at = 0; at < bytes;) {
        const address = (c.address + (isDown ? -at : at)) & (PAGE_BYTES - 1)
        const run = isDown ? 1 : Math.min(bytes - at, PAGE_BYTES - address)
        copy(address, at, run)
        at += run
      }
    }
    const isLast = bytes > c.count
    c.address = (c.address + (isDown ? -bytes : bytes)) & 0xffff
    c.count = (c.count - bytes) & 0xffff
    if (!isLast) return
    this.#status |= 1 << channel
    if ((c.mode & MODE_AUTO) !== 0) {
      c.address = c.baseAddress
      c.count = c.baseCount
    } else this.#mask |= 1 << channel
  }

  clear(): void {
    this.#channels = Array.from({ length: 4 }, () => ({
      baseAddress: 0,
      baseCount: 0,
      address: 0,
      count: 0,
      mode: 0,
    }))
    this.#masterClear()
  }

  read(register: number): number {
    if (register < 8) {
      const channel = this.#channels[register >> 1]!
      const value = register & 1 ? channel.count : channel.address
      this.#highByte = !this.#highByte
      return this.#highByte ? value & 0xff : value >> 8
    }
    if (register === 8) {
      const status = this.#status
      this.#status &= 0xf0
      return status
    }
    // The mask can be read back on chips newer than the 8237A; the rest of the file is write-only.
    return register === 15 ? this.#mask | 0xf0 : 0
  }

  write(register: number, byte: number): void {
    if (register < 8) return this.#writeChannel(register, byte)
    switch (register) {
      case 8:
        this.#command = byte
        break
      case 9: {
        const bit = 1 << (byte & 3)
        this.#status = byte & 4 ? this.#status | (bit << 4) : this.#status & ~(bit << 4)
        break
      }
      case 10:
        this.#mask = byte & 4 ? this.#mask | (1 << (byte & 3)) : this.#mask & ~(1 << (byte & 3))
        break
      case 11:
        this.#channels[byte & 3]!.mode = byte
        break
      case 12:
        this.#highByte = false
        break
      case 13:
        this.#masterClear()
        break
      case 14:
        this.#mask = 0
        break
      default:
        this.#mask = byte & 0x0f
    }
    this.onUnmask()
  }

  save(): ControllerState {
    return {
      addresses: this.#channels.map((c) => c.address),
      counts: this.#channels.map((c) => c.count),
      baseAddresses: this.#channels.map((c) => c.baseAddress),
      baseCounts: this.#channels.map((c) => c.baseCount),
      modes: this.#channels.map((c) => c.mode),
      highByte: this.#highByte,
      mask: this.#mask,
      status: this.#status,
      command: this.#command,
    }
  }

  load(state: unknown): void {
    const s = parseState<ControllerState>('i8237', state, CONTROLLER)
    this.#channels = this.#channels.map((_, i) => ({
      address: s.addresses[i] ?? 0,
      count: s.counts[i] ?? 0,
      baseAddress: s.baseAddresses[i] ?? 0,
      baseCount: s.baseCounts[i] ?? 0,
      mode: s.modes[i] ?? 0,
    }))
    this.#highByte = s.highByte
    this.#mask = s.mask
    this.#status = s.status
    this.#command = s.command
  }

  #writeChannel(register: number, byte: number): void {
    const channel = this.#channels[register >> 1]!
    const merge = (old: number): number =>
      this.#highByte ? (old & 0x00ff) | (byte << 8) : (old & 0xff00) | byte
    if (register & 1) {
      channel.baseCount = merge(channel.baseCount)
      channel.count = channel.baseCount
    } else {
      channel.baseAddress = merge(channel.baseAddress)
      channel.address = channel.baseAddress
    }
    this.#highByte = !this.#highByte
  }

  #masterClear(): void {
    this.#highByte = false
    this.#mask = 0x0f
    this.#status = 0
    this.#command = 0
  }
}

const words: Field<number[]> = list(u16, 4)
const CONTROLLER: { readonly [K in keyof ControllerState]: Field<ControllerState[K]> } = {
  addresses: words,
  counts: words,
  baseAddresses: words,
  baseCounts: words,
  modes: list(u8, 4),
  highByte: flag,
  mask: u8,
  status: u8,
  command: u8,
}

export interface DmaState {
  low: unknown
  high: unknown
  pages: Uint8Array
}

/** Offsets of the page registers of channels 0 to 3. */
const PAGE_REGISTERS = [7, 3, 1, 2] as const

/**
 * The two 8237 DMA controllers of a PC and their page registers. Channels of the first one, which moves
 * bytes, can be given to a device. A transfer takes no time: it is whole before the next access.
 */
export class DmaControllers implements Device<DmaState> {
  readonly #low = new Controller()
  readonly #high = new Controller()
  readonly #pages: Uint8Array = new Uint8Array(16)
  readonly #memory: GuestMemory | undefined
  readonly #requests: (((bytes: number) => void) | undefined)[] = []

  /** @param memory without it nothing moves */
  constructor(memory?: GuestMemory) {
    this.#memory = memory
    this.#low.onUnmask = () => this.#serve()
  }

  /** Channel 0 to 3 for a device. */
  channel(number: number): DmaChannel {
    return {
      request: (fn) => {
        this.#requests[number] = fn
        this.#serve()
      },
      cancel: () => {
        this.#requests[number] = undefined
      },
      toMemory: (data) => {
        const page = this.#pages[PAGE_REGISTERS[number]!]! << 16
        this.#low.move(number, MODE_TO_MEMORY, data.length, (address, at, bytes) => {
          const part = data.subarray(at, at + bytes)
          this.#access((memory) => dmaWrite(memory, page + address, part))
        })
      },
      fromMemory: (target) => {
        const page = this.#pages[PAGE_REGISTERS[number]!]! << 16
        this.#low.move(number, MODE_FROM_MEMORY, target.length, (address, at, bytes) => {
          const part = target.subarray(at, at + bytes)
          this.#access((memory) => memory.read(page + address, part))
        })
      },
    }
  }

  /** Calls whose channel may move data now. */
  #serve(): void {
    for (const [number, fn] of this.#requests.entries()) {
      if (fn === undefined || !this.#low.isReady(number)) continue
      this.#requests[number] = undefined
      fn(this.#low.bytesLeft(number))
    }
  }

  /** What goes to addresses without RAM is lost, and what comes from there is what was there before. */
  #access(access: (memory: GuestMemory) => void): void {
    try {
      if (this.#memory !== undefined) access(this.#memory)
    } catch {
      // A driver that programs nonsense harms itself alone.
    }
  }

  reset(): void {
    this.#requests.length = 0
    this.#low.clear()
    this.#high.clear()
    this.#pages.fill(0)
  }

  save(): DmaState {
    return { low: this.#low.save(), high: this.#high.save(), pages: this.#pages.slice() }
  }

  load(state: DmaState): void {
    const { pages } = parseState<{ pages: Uint8Array }>('dma-pages', state, { pages: bytes(16) })
    this.#low.load(state.low)
    this.#high.load(state.high)
    this.#pages.set(pages)
  }

  /** Offsets are port numbers: 0x00..0x0f, 0x81..0x8f, 0xc0..0xdf. */
  read(port: number): number {
    if (port < 0x10) return this.#low.read(port)
    if (port < 0x90) return this.#pages[port & 15]!
    return this.#high.read((port >> 1) & 15)
  }

  write(port: number, _size: number, value: number): void {
    const byte = value & 0xff
    if (port < 0x10) this.#low.write(port, byte)
    else if (port < 0x90) this.#pages[port & 15] = byte
    else this.#high.write((port >> 1) & 15, byte)
  }
}
