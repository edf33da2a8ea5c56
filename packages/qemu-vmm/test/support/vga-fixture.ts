import { Vga } from '../../src/chipset/vga/vga.ts'
import type { VideoMemory } from '../../src/chipset/vga/video-memory.ts'
import { screenText } from '../../src/display/screen.ts'
import { Bus } from '../../src/machine/bus.ts'
import type { Latches } from '../../src/machine/port-latch.ts'

/** Video memory that notes where it was shown. */
export class FakeVideoMemory implements VideoMemory {
  readonly bytes: Uint8Array
  readonly shown: (readonly [number, number | undefined, number, number])[] = []
  readonly #dirty = new Set<number>()

  constructor(size: number) {
    this.bytes = new Uint8Array(size)
  }

  show(slot: 0 | 1, gpa: number | undefined, size = this.bytes.length, offset = 0): boolean {
    this.shown.push([slot, gpa, size, offset])
    return true
  }

  markWritten(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.bytes.length) throw new Error('outside video memory')
    this.#dirty.add(offset >> 12)
  }

  takeDirty(): Uint8Array {
    const pages = new Uint8Array(this.bytes.length >> 15)
    for (const page of this.#dirty) pages[page >> 3]! |= 1 << (page & 7)
    this.#dirty.clear()
    return pages
  }
}

/** A VGA, and what a driver does with it. */
export class VgaDriver {
  readonly bus: Bus = new Bus()
  readonly memory: FakeVideoMemory
  readonly vga: Vga

  constructor(mib: number = 16, rom?: Uint8Array, latches?: Latches) {
    this.memory = new FakeVideoMemory(mib << 20)
    this.vga = new Vga({
      name: 'VGA',
      bus: this.bus,
      memory: this.memory,
      ...(rom === undefined ? {} : { rom }),
      ...(latches === undefined ? {} : { latches }),
    })
    this.vga.reset()
  }

  /** The text on the screen; undefined where there is none. */
  text(): string | undefined {
    const screen = this.vga.screen()
    return screen.kind === 'text' ? screenText(screen) : undefined
  }

  out(port: number, value: number): void {
    this.bus.pio.write(port, 1, value)
  }

  in(port: number): number {
    return this.bus.pio.read(port, 1)
  }

  /** Writes an indexed register. */
  set(port: number, index: number, value: number): void {
    this.bus.pio.write(port, 2, (value << 8) | index)
  }

  get(port: number, index: number): number {
    this.out(port, index)
    return this.in(port + 1)
  }

  dispi(index: number, value: number): void {
    this.bus.pio.write(0x1ce, 2, index)
    this.bus.pio.write(0x1cf, 2, value)
  }

  dispiRead(index: number): number {
    this.bus.pio.write(0x1ce, 2, index)
    return this.bus.pio.read(0x1cf, 2)
  }

  poke(gpa: number, value: number): void {
    this.bus.mmio.write(gpa, 1, value)
  }

  peek(gpa: number): number {
    return this.bus.mmio.read(gpa, 1)
  }

  /** Sets a linear mode. */
  linear(width: number, height: number, depth: number, flags: number = 0x41): void {
    this.dispi(4, 0)
    this.dispi(1, width)
    this.dispi(2, height)
    this.dispi(3, depth)
    this.dispi(4, flags)
  }

  /** Writes text on the screen of a text mode. */
  print(row: number, column: number, text: string, attribute: number = 0x07): void {
    for (let i = 0; i < text.length; i++) {
      const at = 0xb_8000 + (row * 80 + column + i) * 2
      this.bus.mmio.write(at, 2, (attribute << 8) | text.charCodeAt(i))
    }
  }
}
