import { parseState, u16 } from '../../machine/state.ts'

/** Registers of the Bochs display interface (Bochs, "VBE Display Interface"). */
const ID = 0
const XRES = 1
const YRES = 2
const BPP = 3
const ENABLE = 4
const BANK = 5
const VIRT_WIDTH = 6
const VIRT_HEIGHT = 7
const X_OFFSET = 8
const Y_OFFSET = 9
const MEMORY_64K = 10
const COUNT = 10

const ID_FIRST = 0xb0c0
const ID_LAST = 0xb0c5
const ENABLED = 0x01
const GET_CAPABILITIES = 0x02
const DAC_8BIT = 0x20
const LINEAR = 0x40
const NO_CLEAR = 0x80

const MAX_XRES = 16_000
const MAX_YRES = 12_000
const MAX_BPP = 32
const BANK_BYTES = 0x1_0000

/** A mode that the interface has set. */
export interface LinearMode {
  width: number
  height: number
  /** Bits of a pixel: 4, 8, 15, 16, 24 or 32. */
  depth: number
  /** Bytes from one line to the next, and of the first one; with 4 bits in each of the planes. */
  pitch: number
  start: number
}

/** The Bochs display interface: linear modes up to what video memory holds. */
export class Dispi {
  readonly #registers: Uint16Array = new Uint16Array(COUNT)
  readonly #memoryBytes: number
  #index = 0
  /** Told when a mode begins: memory is to be cleared, or not. */
  onEnable: (clear: boolean) => void = () => {}
  /** Told about every change. */
  onChange: () => void = () => {}

  constructor(memoryBytes: number) {
    this.#memoryBytes = memoryBytes
    this.reset()
  }

  get isEnabled(): boolean {
    return (this.#registers[ENABLE]! & ENABLED) !== 0
  }

  /** Palette entries have eight bits of each colour. */
  get hasWideDac(): boolean {
    return (this.#registers[ENABLE]! & DAC_8BIT) !== 0
  }

  /** First byte of what the window at 0xa0000 shows. */
  get bankStart(): number {
    return this.isEnabled ? this.#registers[BANK]! * BANK_BYTES : 0
  }

  get mode(): LinearMode | undefined {
    if (!this.isEnabled) return undefined
    const r = this.#registers
    const depth = r[BPP]!
    const bits = depth === 15 ? 16 : depth
    const pitch = (r[VIRT_WIDTH]! * bits) >> 3
    const start = ((r[X_OFFSET]! * bits) >> 3) + r[Y_OFFSET]! * pitch
    return { width: r[XRES]!, height: r[YRES]!, depth, pitch, start }
  }

  reset(): void {
    this.#registers.fill(0)
    this.#registers[ID] = ID_LAST
    this.#index = 0
  }

  get index(): number {
    return this.#index
  }

  set index(value: number) {
    this.#index = value & 0xffff
  }

  /** Reads the selected register. */
  read(): number {
    return this.readRegister(this.#index)
  }

  /** Writes the selected register. */
  write(value: number): void {
    this.writeRegister(this.#index, value)
  }

  readRegister(index: number): number {
    if (index === MEMORY_64K) return this.#memoryBytes / BANK_BYTES
    if (index >= COUNT) return 0
    if ((this.#registers[ENABLE]! & GET_CAPABILITIES) !== 0) {
      if (index === XRES) return MAX_XRES
      if (index === YRES) return MAX_YRES
      if (index === BPP) return MAX_BPP
    }
    return this.#registers[index]!
  }

  writeRegister(index: number, value: number): void {
    const r = this.#registers
    switch (index) {
      case ID:
        if (value >= ID_FIRST && value <= ID_LAST) r[ID] = value
        return
      case XRES:
      case YRES:
      case BPP:
      case VIRT_WIDTH:
      case X_OFFSET:
      case Y_OFFSET:
        r[index] = value
        this.#fix()
        break
      case BANK:
        r[BANK] = value % (this.#memoryBytes / BANK_BYTES)
        break
      case ENABLE:
        this.#enable(value)
        break
      default:
        return
    }
    this.onChange()
  }

  save(): { index: number; registers: number[] } {
    return { index: this.#index, registers: [...this.#registers] }
  }

  load(state: unknown): void {
    const { index } = parseState<{ index: number }>('vga', state, { index: u16 })
    const { registers } = state as { registers?: unknown }
    const values: Record<string, number> = parseState<Record<string, number>>(
      'vga',
      registers,
      Object.fromEntries(Array.from({ length: COUNT }, (_, i) => [i, u16])),
    )
    this.#index = index
    for (let i = 0; i < COUNT; i++) this.#registers[i] = values[i]!
    this.#registers[BANK]! %= this.#memoryBytes / BANK_BYTES
    this.#fix()
  }

  #enable(value: number): void {
    const r = this.#registers
    const begins = (value & ENABLED) !== 0 && !this.isEnabled
    r[ENABLE] = value & (ENABLED | GET_CAPABILITIES | DAC_8BIT | LINEAR | NO_CLEAR)
    if (!begins) {
      if ((value & ENABLED) === 0) r[BANK] = 0
      return
    }
    r[VIRT_WIDTH] = 0
    r[X_OFFSET] = 0
    r[Y_OFFSET] = 0
    r[BANK] = 0
    this.#fix()
    this.onEnable((value & NO_CLEAR) === 0)
  }

  /** Makes the mode one that video memory has room for. */
  #fix(): void {
    if (!this.isEnabled) return
    const r = this.#registers
    if (![4, 8, 15, 16, 24, 32].includes(r[BPP]!)) r[BPP] = 8
    const bits = r[BPP] === 15 ? 16 : r[BPP]!
    r[XRES] = Math.min(Math.max(r[XRES]! & ~7, 8), MAX_XRES)
    if (r[VIRT_WIDTH]! < r[XRES]! || r[VIRT_WIDTH]! > MAX_XRES) r[VIRT_WIDTH] = r[XRES]!
    r[VIRT_WIDTH]! &= ~7
    const pitch = (r[VIRT_WIDTH]! * bits) >> 3
    const lines = Math.floor(this.#memoryBytes / pitch)
    r[YRES] = Math.min(Math.max(r[YRES]!, 1), MAX_YRES, lines)
    r[VIRT_HEIGHT] = Math.min(lines, 0xffff)
    const end = (x: number, y: number): number => ((x * bits) >> 3) + (y + r[YRES]!) * pitch
    if (end(r[X_OFFSET]!, r[Y_OFFSET]!) > this.#memoryBytes) r[Y_OFFSET] = 0
    if (end(r[X_OFFSET]!, 0) > this.#memoryBytes) r[X_OFFSET] = 0
  }
}
