import type { IrqLine } from '../../src/device.ts'

/** A line that remembers its level and counts rising edges. */
export class FakeIrq implements IrqLine {
  level = false
  edges = 0

  set(level: boolean): void {
    if (level && !this.level) this.edges++
    this.level = level
  }

  pulse(): void {
    this.set(true)
    this.set(false)
  }
}

/** Guest memory that keeps what was written, by page. */
export class FakeMemory {
  readonly #pages = new Map<number, Uint8Array>()

  write(gpa: number, source: Uint8Array): void {
    for (let i = 0; i < source.length; i++) this.#page(gpa + i)[(gpa + i) & 4095] = source[i]!
  }

  bytes(gpa: number, length: number): Uint8Array {
    return Uint8Array.from({ length }, (_, i) => this.#page(gpa + i)[(gpa + i) & 4095]!)
  }

  view(gpa: number, length: number): DataView {
    return new DataView(this.bytes(gpa, length).buffer)
  }

  text(gpa: number): string {
    let result = ''
    for (let at = gpa; ; at++) {
      const byte = this.bytes(at, 1)[0]!
      if (byte === 0) return result
      result += String.fromCharCode(byte)
    }
  }

  #page(gpa: number): Uint8Array {
    const index = Math.floor(gpa / 4096)
    let page = this.#pages.get(index)
    if (page === undefined) {
      page = new Uint8Array(4096)
      this.#pages.set(index, page)
    }
    return page
  }
}
