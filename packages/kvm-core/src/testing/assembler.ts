/** Code size of a segment, which decides how the same mnemonic is encoded. */
export type CodeBits = 16 | 32 | 64

/** General registers by number, for the operand size of the method that takes them. */
export const Reg = {
  ax: 0,
  cx: 1,
  dx: 2,
  bx: 3,
  sp: 4,
  bp: 5,
  si: 6,
  di: 7,
} as const
export type Reg = (typeof Reg)[keyof typeof Reg]

/** Condition codes of Jcc. */
export const Cond = {
  o: 0,
  no: 1,
  b: 2,
  ae: 3,
  z: 4,
  nz: 5,
  be: 6,
  a: 7,
  s: 8,
  ns: 9,
  l: 12,
  ge: 13,
  le: 14,
  g: 15,
} as const
export type Cond = (typeof Cond)[keyof typeof Cond]

interface Fixup {
  readonly at: number
  readonly bytes: 1 | 2 | 4
  readonly label: string
  readonly relative: boolean
}

/**
 * Builds guest code for tests: a few dozen instructions, labels, raw bytes.
 *
 * ```ts
 * const code = new Assembler(16, 0x1000).movImm(Reg.dx, 0x10).movImm8(Reg.ax, 0x55).outDx8().hlt().build()
 * ```
 *
 * Methods return the assembler. Addresses are of the code segment given by `origin`.
 */
export class Assembler {
  readonly #bits: CodeBits
  readonly #origin: number
  readonly #bytes: number[] = []
  readonly #labels = new Map<string, number>()
  readonly #fixups: Fixup[] = []

  /** What mode the code is for. */
  get bits(): CodeBits {
    return this.#bits
  }

  constructor(bits: CodeBits, origin = 0) {
    this.#bits = bits
    this.#origin = origin
  }

  /** Address of the next byte. */
  get here(): number {
    return this.#origin + this.#bytes.length
  }

  /** Raw bytes. */
  db(...bytes: readonly number[]): this {
    for (const byte of bytes) this.#bytes.push(byte & 0xff)
    return this
  }

  /** A little-endian value of `size` bytes. */
  value(value: number | bigint, size: 1 | 2 | 4 | 8): this {
    let rest = BigInt.asUintN(64, BigInt(value))
    for (let i = 0; i < size; i++) {
      this.#bytes.push(Number(rest & 0xffn))
      rest >>= 8n
    }
    return this
  }

  /** Names this place. A name can be used before it is defined. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new Error(`label ${name} is defined twice`)
    this.#labels.set(name, this.here)
    return this
  }

  /** Pads with NOPs to a multiple of `size`. */
  align(size: number): this {
    while (this.here % size !== 0) this.db(0x90)
    return this
  }

  /** MOV r, imm: 16 bits in 16-bit code, else 32 (zero-extended in 64-bit code). */
  movImm(reg: Reg, value: number): this {
    return this.db(0xb8 + reg).value(value, this.#bits === 16 ? 2 : 4)
  }

  /** MOV r, address of a label. */
  movLabel(reg: Reg, label: string): this {
    return this.db(0xb8 + reg).#fix(label, this.#bits === 16 ? 2 : 4, false)
  }

  /** MOV r8, imm8 (AL, CL, DL, BL). */
  movImm8(reg: Reg, value: number): this {
    return this.db(0xb0 + (reg & 3), value)
  }

  /** MOV r64, imm64; 64-bit code only. */
  movImm64(reg: Reg, value: number | bigint): this {
    this.#only(64)
    return this.db(0x48, 0xb8 + reg).value(value, 8)
  }

  /** MOV rAX, [address] of `size` bytes, an absolute address below 4 GiB (64 KiB in 16-bit code). */
  load(size: 1 | 2 | 4 | 8, address: number): this {
    return this.#accumulator(size, address, 0xa0)
  }

  /** MOV [address], rAX of `size` bytes. */
  store(size: 1 | 2 | 4 | 8, address: number): this {
    return this.#accumulator(size, address, 0xa2)
  }

  outImm8(port: number): this {
    return this.db(0xe6, port)
  }
  inImm8(port: number): this {
    return this.db(0xe4, port)
  }
  /** OUT DX, AL. */
  outDx8(): this {
    return this.db(0xee)
  }
  /** OUT DX, EAX. */
  outDx32(): this {
    return this.#wide().db(0xef)
  }
  /** IN AL, DX. */
  inDx8(): this {
    return this.db(0xec)
  }
  /** IN EAX, DX. */
  inDx32(): this {
    return this.#wide().db(0xed)
  }
  hlt(): this {
    return this.db(0xf4)
  }
  nop(): this {
    return this.db(0x90)
  }
  cli(): this {
    return this.db(0xfa)
  }
  sti(): this {
    return this.db(0xfb)
  }
  int(vector: number): this {
    return this.db(0xcd, vector)
  }
  /** IRET of the code's operand size. */
  iret(): this {
    return this.#bits === 64 ? this.db(0x48, 0xcf) : this.db(0xcf)
  }
  ret(): this {
    return this.db(0xc3)
  }
  pushReg(reg: Reg): this {
    return this.db(0x50 + reg)
  }
  popReg(reg: Reg): this {
    return this.db(0x58 + reg)
  }
  incReg(reg: Reg): this {
    return this.db(0xff, 0xc0 + reg)
  }
  decReg(reg: Reg): this {
    return this.db(0xff, 0xc8 + reg)
  }
  rdmsr(): this {
    return this.db(0x0f, 0x32)
  }
  wrmsr(): this {
    return this.db(0x0f, 0x30)
  }
  cpuid(): this {
    return this.db(0x0f, 0xa2)
  }

  /** JMP rel8. */
  jmp(label: string): this {
    return this.db(0xeb).#fix(label, 1, true)
  }
  /** Jcc rel8. */
  jcc(cond: Cond, label: string): this {
    return this.db(0x70 + cond).#fix(label, 1, true)
  }
  /** LOOP rel8. */
  loop(label: string): this {
    return this.db(0xe2).#fix(label, 1, true)
  }
  /** CALL near. */
  call(label: string): this {
    return this.db(0xe8).#fix(label, this.#bits === 16 ? 2 : 4, true)
  }

  /**
   * The bytes with all labels resolved.
   * @throws Error for an undefined label or a short jump that is too far.
   */
  build(): Uint8Array {
    const out = Uint8Array.from(this.#bytes)
    for (const { at, bytes, label, relative } of this.#fixups) {
      const target = this.#labels.get(label)
      if (target === undefined) throw new Error(`label ${label} is not defined`)
      const value = relative ? target - (this.#origin + at + bytes) : target
      if (bytes === 1 && (value < -128 || value > 127)) {
        throw new Error(`label ${label} is ${value} bytes away, a short jump reaches 127`)
      }
      for (let i = 0; i < bytes; i++) out[at + i] = (value >> (8 * i)) & 0xff
    }
    return out
  }

  #fix(label: string, bytes: 1 | 2 | 4, relative: boolean): this {
    this.#fixups.push({ at: this.#bytes.length, bytes, label, relative })
    for (let i = 0; i < bytes; i++) this.#bytes.push(0)
    return this
  }

  /** 32-bit operand size. */
  #wide(): this {
    return this.#bits === 16 ? this.db(0x66) : this
  }

  #accumulator(size: 1 | 2 | 4 | 8, address: number, opcode: number): this {
    if (size === 8) this.#only(64)
    if (size === 2 && this.#bits !== 16) this.db(0x66)
    if (size === 4) this.#wide()
    if (size === 8) this.db(0x48)
    if (this.#bits === 64) {
      // Without a prefix the address has 64 bits.
      return this.db(size === 1 ? opcode : opcode + 1).value(address, 8)
    }
    return this.db(size === 1 ? opcode : opcode + 1).value(address, this.#bits === 16 ? 2 : 4)
  }

  #only(bits: CodeBits): void {
    if (this.#bits !== bits) throw new Error(`this needs ${bits}-bit code, not ${this.#bits}-bit`)
  }
}
