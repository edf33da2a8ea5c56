import type { IoHandler, IrqLine, Stateful } from '../device.ts'
import type { Bus } from '../machine/bus.ts'
import { bytes, parseState, u16, u32 } from '../machine/state.ts'

const DATA_PORT = 0xe0
const FLUSH_PORT = 0xe4
const DATA_BYTES_PORT = 0xe8
const IRQ_PORT = 0x2000
/** One port for each global system interrupt of the I/O APIC; lines end with the ISA ones. */
const IRQ_PORTS = 24
const MEMORY_BASE = 0xff00_0000
const MEMORY_BYTES = 0x1_0000

export interface PcTestDevState {
  data: number
  memory: Uint8Array
  /** Levels of the lines, as a mask. */
  lines: number
}

/**
 * QEMU's `pc-testdev`, which suites for x86 hypervisors talk to: a register to write and to read
 * back, interrupt lines that the guest moves by itself, and memory that only exists as a device.
 */
export class PcTestDev implements Stateful<PcTestDevState> {
  readonly #lines: readonly IrqLine[]
  #data = 0
  #memory: Uint8Array = new Uint8Array(MEMORY_BYTES)
  #levels = 0

  /** `lines` are the ISA interrupts, in order. Throws `E_RANGE_TAKEN` for a second one. */
  constructor(bus: Bus, lines: readonly IrqLine[]) {
    this.#lines = lines
    const at = (base: number, len: number, handler: IoHandler, max: 1 | 2 | 4): void => {
      bus.pio.map({ name: 'pc-testdev', base, len, handler, access: { max } })
    }
    at(DATA_PORT, 4, this.#register, 4)
    at(FLUSH_PORT, 4, FLUSH, 4)
    at(DATA_BYTES_PORT, 4, this.#register, 1)
    at(IRQ_PORT, IRQ_PORTS, this.#irq, 1)
    bus.mmio.map({
      name: 'pc-testdev',
      base: MEMORY_BASE,
      len: MEMORY_BYTES,
      handler: this.#mmio,
    })
  }

  reset(): void {
    this.#data = 0
    this.#memory.fill(0)
    this.#driveLines(0)
  }

  save(): PcTestDevState {
    return { data: this.#data, memory: this.#memory.slice(), lines: this.#levels }
  }

  load(state: PcTestDevState): void {
    const loaded = parseState<PcTestDevState>('pc-testdev', state, {
      data: u32,
      memory: bytes(MEMORY_BYTES),
      lines: u16,
    })
    this.#data = loaded.data
    this.#memory = loaded.memory
    this.#driveLines(loaded.lines)
  }

  #driveLines(levels: number): void {
    this.#levels = levels
    for (const [irq, line] of this.#lines.entries()) line.set(((levels >>> irq) & 1) !== 0)
  }

  /** The register as bytes: a part of it may be read and written. */
  readonly #register: IoHandler = {
    read: (offset) => this.#data >>> ((offset & 3) * 8),
    write: (offset, size, value) => {
      const shift = (offset & 3) * 8
      const mask = (size === 4 ? 0xffff_ffff : (1 << (size * 8)) - 1) << shift
      this.#data = ((this.#data & ~mask) | ((value << shift) & mask)) >>> 0
    },
  }

  readonly #irq: IoHandler = {
    read: () => 0,
    write: (offset, _size, value) => {
      const line = this.#lines[offset]
      if (line === undefined) return
      const level = value !== 0
      this.#levels = level ? this.#levels | (1 << offset) : this.#levels & ~(1 << offset)
      line.set(level)
    },
  }

  readonly #mmio: IoHandler = {
    read: (offset, size) => {
      let value = 0
      for (let i = 0; i < size; i++) value |= (this.#memory[offset + i] ?? 0) << (i * 8)
      return value
    },
    write: (offset, size, value) => {
      for (let i = 0; i < size; i++) this.#memory[offset + i] = value >>> (i * 8)
    },
  }
}

/** Asks that the host forgets its mapping of a page. There is none that a guest could notice. */
const FLUSH: IoHandler = { read: () => 0, write() {} }
