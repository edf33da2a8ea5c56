/**
 * Machine code of 32-bit guests, enough for tests: port output and input, loops, and ways to die.
 */
export class GuestCode {
  #bytes: number[] = []

  /** Where the next instruction begins, for backward jumps. */
  get here(): number {
    return this.#bytes.length
  }

  raw(...bytes: number[]): this {
    this.#bytes.push(...bytes)
    return this
  }

  /** mov al, value; mov dx, port; out dx, al */
  outb(port: number, value: number): this {
    return this.raw(0xb0, value & 0xff, ...this.#dx(port), 0xee)
  }

  /** mov ax, value; mov dx, port; out dx, ax */
  outw(port: number, value: number): this {
    return this.raw(0x66, 0xb8, value & 0xff, value >> 8, ...this.#dx(port), 0x66, 0xef)
  }

  /** mov eax, value; mov dx, port; out dx, eax */
  outl(port: number, value: number): this {
    const bytes = [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff)
    return this.raw(0xb8, ...bytes, ...this.#dx(port), 0xef)
  }

  /** mov dx, port; in al, dx */
  inb(port: number): this {
    return this.raw(...this.#dx(port), 0xec)
  }

  /** Writes text to COM1. */
  print(text: string): this {
    for (const char of text) this.outb(0x3f8, char.charCodeAt(0))
    return this
  }

  /** Soft-off through the ACPI block, then waits. */
  powerOff(): this {
    return this.outw(0x604, 0x2000).halt()
  }

  /** cli; hlt; jmp to the hlt */
  halt(): this {
    return this.raw(0xfa, 0xf4, 0xeb, 0xfd)
  }

  /** jmp back to an offset from `here`. */
  jump(to: number): this {
    return this.raw(0xe9).#relative(to)
  }

  /** jz back or forward to an offset. */
  jumpIfZero(to: number): this {
    return this.raw(0x0f, 0x84).#relative(to)
  }

  /** cmp al, value */
  compare(value: number): this {
    return this.raw(0x3c, value)
  }

  /** test al, mask */
  test(mask: number): this {
    return this.raw(0xa8, mask)
  }

  /** Loads an empty interrupt table and raises an exception: a triple fault. */
  tripleFault(): this {
    return this.raw(0x6a, 0x00, 0x6a, 0x00, 0x0f, 0x01, 0x1c, 0x24, 0x0f, 0x0b)
  }

  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes)
  }

  #dx(port: number): number[] {
    return [0x66, 0xba, port & 0xff, port >> 8]
  }

  #relative(to: number): this {
    const distance = to - (this.here + 4)
    return this.raw(...[0, 8, 16, 24].map((shift) => (distance >>> shift) & 0xff))
  }
}
