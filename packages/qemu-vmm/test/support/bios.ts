import { Assembler, Reg } from 'kvm-core/testing'

const RESET_VECTOR = 0x10
/** What ends the machine with a status; see `isa-debug-exit`. */
export const EXIT_PORT = 0x501

/** A BIOS of `size` bytes, filled with `fill`, that runs real-mode code at the start of a segment. */
export function biosImage(
  size: number,
  fill: number,
  segment: number,
  code: Uint8Array,
): Uint8Array {
  const image = new Uint8Array(size).fill(fill)
  image.set(code, size - (0x10_0000 - segment * 16))
  // ljmp segment:0
  image.set([0xea, 0, 0, segment & 0xff, segment >> 8], size - RESET_VECTOR)
  return image
}

/** Real-mode code of a BIOS: what tests need again and again. */
export class BiosCode {
  readonly #code = new Assembler(16)

  /** mov ax, segment; mov ds, ax */
  dataSegment(segment: number): this {
    this.#code.movImm(Reg.ax, segment).db(0x8e, 0xd8)
    return this
  }

  outb(port: number, value: number): this {
    this.#code.movImm8(Reg.ax, value).movImm(Reg.dx, port).outDx8()
    return this
  }

  outl(port: number, value: number): this {
    // mov eax, value; mov dx, port; out dx, eax
    this.#code.db(0x66, 0xb8).value(value, 4).movImm(Reg.dx, port).db(0x66, 0xef)
    return this
  }

  /** Writes a byte of the configuration space of the function at a slot. */
  configWrite(slot: number, fn: number, offset: number, value: number): this {
    const address = 0x8000_0000 + slot * 0x800 + fn * 0x100 + (offset & 0xfc)
    return this.outl(0xcf8, address).outb(0xcfc + (offset & 3), value)
  }

  /** Sends the byte at ds:offset to COM1. */
  send(offset: number): this {
    this.#code.load(1, offset).movImm(Reg.dx, 0x3f8).outDx8()
    return this
  }

  store(offset: number, value: number): this {
    this.#code.movImm8(Reg.ax, value).store(1, offset)
    return this
  }

  /** Ends the machine with status (value << 1) | 1. */
  exit(value: number): Uint8Array {
    this.outb(EXIT_PORT, value)
    this.#code.label('end').hlt().jmp('end')
    return this.#code.build()
  }
}
