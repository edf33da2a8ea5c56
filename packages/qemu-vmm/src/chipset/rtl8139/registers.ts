/** A register of one to four bytes. */
export interface Register {
  read(): number
  write?(value: number): void
  /** Bytes that a narrower write leaves out count as 0: those that clear or start something. */
  isCommand?: boolean
}

interface Place {
  register: Register
  start: number
  bytes: number
}

/** Registers side by side in 256 bytes, reached by accesses of any size and place. */
export class RegisterBank {
  readonly #places: (Place | undefined)[] = Array.from({ length: 256 })

  /** Puts a register at `start`. */
  define(start: number, bytes: number, register: Register): void {
    const place = { register, start, bytes }
    for (let at = start; at < start + bytes; at++) this.#places[at] = place
  }

  /** Whether any register is where an access goes. */
  has(offset: number, size: number): boolean {
    for (let at = offset; at < offset + size; at++) if (this.#places[at] !== undefined) return true
    return false
  }

  /** What is not there reads 0. */
  read(offset: number, size: number): number {
    let value = 0
    for (let i = 0; i < size; i++) {
      const place = this.#places[offset + i]
      if (place === undefined) continue
      const byte = (place.register.read() >>> (8 * (offset + i - place.start))) & 0xff
      value |= byte << (8 * i)
    }
    return value >>> 0
  }

  write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size;) {
      const place = this.#places[offset + i]
      if (place === undefined) {
        i++
        continue
      }
      const { register, start, bytes } = place
      let written = register.isCommand === true ? 0 : register.read()
      for (let at = offset + i - start; at < bytes && i < size; at++, i++) {
        const byte = (value >>> (8 * i)) & 0xff
        written = (written & ~(0xff << (8 * at))) | (byte << (8 * at))
      }
      register.write?.(written >>> 0)
    }
  }
}
