import type { IoHandler, Stateful } from '../../device.ts'
import type { Screen } from '../../display/screen.ts'
import type { Bus } from '../../machine/bus.ts'
import type { Latches } from '../../machine/port-latch.ts'
import { VmmError } from '../../errors.ts'
import { PciFunction } from '../pci/function.ts'
import { Dispi } from './dispi.ts'
import { findFont, setTextMode } from './modes.ts'
import { VgaPlanes } from './planes.ts'
import { VgaRegisters } from './registers.ts'
import { isGraphics, render } from './render.ts'
import type { Picture } from './render.ts'
import { cellsOf, scanLines, textMode } from './text.ts'
import type { VideoMemory } from './video-memory.ts'

const WINDOW_GPA = 0xa_0000
const WINDOW_BYTES = 0x2_0000
/** Where the miscellaneous output register is read. */
const MISC_READ = 0x3cc
/** Base, length, and whether the guest need not wait for writes: what is latched is read at once. */
const PORT_RANGES = [
  [0x3b4, 2, true],
  [0x3ba, 1, true],
  [0x3c0, 2, true],
  // The miscellaneous output register, and where it is read.
  [0x3c2, 1, false],
  [0x3c3, 9, true],
  [MISC_READ, 1, false],
  [0x3cd, 3, true],
  [0x3d4, 2, true],
  [0x3da, 1, true],
] as const
const DISPI_INDEX = 0x1ce
const DISPI_DATA = 0x1cf
const REGISTER_BAR_BYTES = 4096
/** What the register BAR has where (QEMU, docs/specs/standard-vga). */
const AT_PORTS = 0x400
const AT_DISPI = 0x500
const AT_EXTENSION = 0x600
const PORTS = 0x20
const DISPI_REGISTERS = 11
const EXTENSION_BYTES = 8
const LITTLE_ENDIAN = 0x1e1e1e1e
const PAGE = 4096

const LINE_DOUBLED = 0x9f

/** The parts of a {@link Vga}. */
export interface VgaOptions {
  name: string
  bus: Bus
  memory: VideoMemory
  /** The video BIOS. */
  rom?: Uint8Array
  /** Where reads of some ports are answered without an exit; by default nowhere. */
  latches?: Latches
}

/**
 * QEMU's standard VGA: the registers and memory of a VGA, and the Bochs display interface, by ports
 * and by a register BAR, with video memory as RAM in BAR 0.
 */
export class Vga implements Stateful {
  readonly fn: PciFunction
  readonly #memory: VideoMemory
  readonly #registers: VgaRegisters
  readonly #planes: VgaPlanes
  readonly #dispi: Dispi
  readonly #font: Uint8Array | undefined
  /** What the window at 0xa0000 shows as RAM: its offset, or -1. */
  #window = -1

  constructor({ name, bus, memory, rom, latches }: VgaOptions) {
    this.#memory = memory
    this.#registers = new VgaRegisters(latches?.(MISC_READ), bus.unknownOf(name))
    const { bytes } = memory
    this.#planes = new VgaPlanes(bytes, this.#registers, (at, length) =>
      memory.markWritten(at, length),
    )
    this.#dispi = new Dispi(bytes.length)
    this.#font = rom && findFont(rom)
    this.#dispi.onChange = () => this.#modeChanged()
    this.#dispi.onEnable = (clear) => this.#enterLinearMode(clear)
    this.#registers.onMemoryChange = () => this.#showWindow()
    this.fn = new PciFunction(name, bus, {
      vendor: 0x1234,
      device: 0x1111,
      revision: 0x02,
      classCode: 0x030000,
    })
    this.fn.addBar(0, {
      space: 'mmio',
      size: bytes.length,
      prefetchable: true,
      handler: this.#frameBuffer(),
      onMove: (base) => memory.show(0, base),
    })
    this.fn.addBar(2, {
      space: 'mmio',
      size: REGISTER_BAR_BYTES,
      handler: this.#registerBar(),
    })
    this.#mapLegacy(bus)
  }

  /** What is on the screen: text, or the size of what is not. */
  screen(): Screen {
    const registers = this.#registers
    const { mode } = this.#dispi
    if (mode !== undefined) return { kind: 'graphics', width: mode.width, height: mode.height }
    if (!registers.isEnabled) return { kind: 'off' }
    if (isGraphics(registers, this.#dispi)) {
      const width = (registers.crtc[1]! + 1) * 8
      return { kind: 'graphics', width, height: scanLines(registers) }
    }
    const text = textMode(registers)
    const { columns, rows, cursor } = text
    const place = cursor && { row: cursor.row, column: cursor.column }
    const cells = cellsOf(text, this.#memory.bytes)
    return { kind: 'text', columns, rows, cells, cursor: place }
  }

  /** What a monitor would show. */
  picture(): Picture {
    return render(this.#memory.bytes, this.#registers, this.#dispi)
  }

  /** What firmware does: a text mode of 80 columns and 25 rows, with the font of the video BIOS. */
  setTextMode(): void {
    setTextMode(this.#registers, this.#memory.bytes, this.#font)
    this.#memory.markWritten(0, this.#memory.bytes.length)
  }

  reset(): void {
    this.#registers.reset()
    this.#planes.reset()
    this.#dispi.reset()
    this.#modeChanged()
  }

  save(): unknown {
    return {
      registers: this.#registers.save(),
      planes: this.#planes.save(),
      dispi: this.#dispi.save(),
      memory: savePages(this.#memory.bytes),
    }
  }

  load(state: unknown): void {
    const saved = (state ?? {}) as Record<string, unknown>
    this.#registers.load(saved['registers'])
    this.#planes.load(saved['planes'])
    this.#dispi.load(saved['dispi'])
    loadPages(this.#memory.bytes, saved['memory'])
    this.#memory.markWritten(0, this.#memory.bytes.length)
    this.#modeChanged()
  }

  #mapLegacy(bus: Bus): void {
    const { name } = this.fn
    for (const [base, len, posted] of PORT_RANGES) {
      bus.pio.map({
        name,
        base,
        len,
        access: { max: 1 },
        ...(posted && { posted }),
        handler: {
          read: (offset) => this.#registers.read(base + offset),
          write: (offset, _size, value) => this.#registers.write(base + offset, value & 0xff),
        },
      })
    }
    // The data register lies across the index register's second byte: both take whole words.
    bus.pio.map({
      name,
      base: DISPI_INDEX,
      len: 1,
      access: { max: 2 },
      handler: {
        read: () => this.#dispi.index,
        write: (_offset, _size, value) => {
          this.#dispi.index = value
        },
      },
    })
    bus.pio.map({
      name,
      base: DISPI_DATA,
      len: 2,
      access: { max: 2 },
      handler: {
        read: () => this.#dispi.read(),
        write: (_offset, _size, value) => this.#dispi.write(value & 0xffff),
      },
    })
    bus.mmio.map({
      name,
      base: WINDOW_GPA,
      len: WINDOW_BYTES,
      access: { max: 1 },
      // Text and planar modes write to it a character, or eight dots, at a time.
      posted: true,
      handler: {
        read: (offset) => this.#planes.read(offset),
        write: (offset, _size, value) => this.#planes.write(offset, value & 0xff),
      },
    })
  }

  /** Reached only where something else lies over video memory. */
  #frameBuffer(): IoHandler {
    const { bytes } = this.#memory
    return {
      read: (offset, size) => {
        let value = 0
        for (let i = 0; i < size; i++) value |= (bytes[offset + i] ?? 0xff) << (i * 8)
        return value >>> 0
      },
      write: (offset, size, value) => {
        for (let i = 0; i < size && offset + i < bytes.length; i++) {
          bytes[offset + i] = (value >>> (i * 8)) & 0xff
        }
        this.#memory.markWritten(offset, Math.min(size, bytes.length - offset))
      },
    }
  }

  #registerBar(): IoHandler {
    return {
      read: (offset, size) => {
        if (offset >= AT_PORTS && offset < AT_PORTS + PORTS) {
          const port = 0x3c0 + offset - AT_PORTS
          const low = this.#registers.read(port)
          return size < 2 ? low : low | (this.#registers.read(port + 1) << 8)
        }
        const register = (offset - AT_DISPI) >> 1
        if (offset >= AT_DISPI && register < DISPI_REGISTERS) {
          return this.#dispi.readRegister(register)
        }
        if (offset === AT_EXTENSION) return EXTENSION_BYTES
        return offset === AT_EXTENSION + 4 ? LITTLE_ENDIAN : 0
      },
      write: (offset, size, value) => {
        if (offset >= AT_PORTS && offset < AT_PORTS + PORTS) {
          const port = 0x3c0 + offset - AT_PORTS
          this.#registers.write(port, value & 0xff)
          if (size > 1) this.#registers.write(port + 1, (value >> 8) & 0xff)
          return
        }
        const register = (offset - AT_DISPI) >> 1
        if (offset >= AT_DISPI && register < DISPI_REGISTERS) {
          this.#dispi.writeRegister(register, value & 0xffff)
        }
      },
    }
  }

  /** Sets what of the VGA a linear mode needs, so that its memory is seen as such. */
  #enterLinearMode(clear: boolean): void {
    const { width, height, depth, pitch } = this.#dispi.mode!
    const { graphics, sequencer, crtc } = this.#registers
    graphics[6] = (graphics[6]! & ~0x0c) | 0x05
    crtc[0x17]! |= 3
    crtc[0x13] = pitch >> 3
    crtc[0x01] = (width >> 3) - 1
    crtc[0x12] = height - 1
    crtc[0x07] = (crtc[0x07]! & ~0x42) | (((height - 1) >> 7) & 0x02) | (((height - 1) >> 3) & 0x40)
    crtc[0x0c] = 0
    crtc[0x0d] = 0
    crtc[0x09]! &= ~LINE_DOUBLED
    sequencer[1]! &= ~8
    if (depth !== 4) {
      sequencer[4]! |= 8
      sequencer[2]! |= 0x0f
    }
    graphics[5] = (graphics[5]! & ~0x60) | (depth === 4 ? 0 : 0x40)
    if (!clear) return
    this.#memory.bytes.fill(0, 0, height * pitch)
    this.#memory.markWritten(0, height * pitch)
  }

  #modeChanged(): void {
    this.#registers.dacMask = this.#dispi.hasWideDac ? 0xff : 0x3f
    this.#planes.bank = this.#dispi.bankStart
    this.#showWindow()
  }

  /** Shows the window as RAM while it is nothing else: no access exits then. */
  #showWindow(): void {
    const window = this.#planes.linearWindow()
    const offset = window?.offset ?? -1
    if (offset === this.#window) return
    this.#window = offset
    this.#memory.show(1, window?.gpa, window?.size, window?.offset)
  }
}

/** Pages that are not all zero, by their numbers. */
function savePages(bytes: Uint8Array): { page: number; data: Uint8Array }[] {
  const zero = Buffer.alloc(PAGE)
  const pages: { page: number; data: Uint8Array }[] = []
  for (let at = 0; at < bytes.length; at += PAGE) {
    const data = bytes.subarray(at, at + PAGE)
    if (!zero.equals(data)) pages.push({ page: at / PAGE, data: Uint8Array.from(data) })
  }
  return pages
}

function loadPages(bytes: Uint8Array, state: unknown): void {
  const count = bytes.length / PAGE
  const pages = Array.isArray(state) ? (state as unknown[]) : undefined
  const isPage = (entry: unknown): entry is { page: number; data: Uint8Array } => {
    const { page, data } = (entry ?? {}) as { page?: unknown; data?: unknown }
    const isNumber = typeof page === 'number' && Number.isInteger(page) && page >= 0 && page < count
    return isNumber && data instanceof Uint8Array && data.length === PAGE
  }
  if (pages === undefined || pages.length > count || !pages.every(isPage)) {
    throw new VmmError('E_STATE', 'the saved state of vga has memory that is not its own')
  }
  bytes.fill(0)
  for (const { page, data } of pages) bytes.set(data, page * PAGE)
}
