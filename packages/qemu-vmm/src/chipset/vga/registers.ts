import type { Latch } from '../../device.ts'
import { bytes, flag, int, parseState, u8 } from '../../machine/state.ts'
import { type UnknownCommand, untold } from '../unknown-command.ts'

/** Bits that each register keeps, as the hardware has them. */
const SEQUENCER_MASKS = [0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0x00, 0x00, 0xff] as const
const GRAPHICS_MASKS = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff] as const
const CRTC_COUNT = 0x19
const CRTC_PROTECT = 0x11
const CRTC_OVERFLOW = 0x07
const ATTRIBUTE_COUNT = 0x15
const ATTRIBUTE_ENABLE = 0x20
const MISC_COLOR = 0x01
/** Vertical retrace and display disabled. */
const RETRACE = 0x09
const PALETTE_BYTES = 768

export interface VgaRegistersState {
  misc: number
  feature: number
  sequencerIndex: number
  sequencer: Uint8Array
  graphicsIndex: number
  graphics: Uint8Array
  crtcIndex: number
  crtc: Uint8Array
  attributeIndex: number
  attributeFlip: boolean
  attribute: Uint8Array
  retrace: number
  pixelMask: number
  dacRead: number
  dacWrite: number
  dacPart: number
  dacReading: boolean
  palette: Uint8Array
}

/**
 * The registers of a VGA at ports 0x3b0 to 0x3df. The CRTC answers at 0x3b4 or 0x3d4, as the
 * miscellaneous output register says.
 */
export class VgaRegisters {
  readonly sequencer: Uint8Array = new Uint8Array(8)
  readonly graphics: Uint8Array = new Uint8Array(9)
  readonly crtc: Uint8Array = new Uint8Array(CRTC_COUNT)
  readonly attribute: Uint8Array = new Uint8Array(ATTRIBUTE_COUNT)
  /** Red, green and blue of 256 colours, six bits each, or eight where the DAC has them. */
  readonly palette: Uint8Array = new Uint8Array(PALETTE_BYTES)
  pixelMask = 0xff
  readonly #latch: Latch
  readonly #unknown: UnknownCommand
  #misc = 0
  #feature = 0
  #sequencerIndex = 0
  #graphicsIndex = 0
  #crtcIndex = 0
  #attributeIndex = 0
  #attributeFlip = false
  #retrace = 0
  #dacRead = 0
  #dacWrite = 0
  #dacPart = 0
  #dacReading = false
  /** Bits of a palette entry. */
  dacMask = 0x3f
  /** Called when a register changes that says how the guest sees video memory. */
  onMemoryChange: () => void = () => {}

  /** `latch` is of the miscellaneous output register, which text modes read for each character. */
  constructor(latch: Latch = () => {}, unknown: UnknownCommand = untold) {
    this.#latch = latch
    this.#unknown = unknown
    latch(this.#misc)
  }

  /** The miscellaneous output register. */
  get misc(): number {
    return this.#misc
  }

  set misc(value: number) {
    this.#misc = value
    this.#latch(value)
  }

  /** The screen shows something. */
  get isEnabled(): boolean {
    return (this.#attributeIndex & ATTRIBUTE_ENABLE) !== 0
  }

  reset(): void {
    for (const set of [this.sequencer, this.graphics, this.crtc, this.attribute, this.palette]) {
      set.fill(0)
    }
    this.misc = 0
    this.pixelMask = 0xff
    this.#feature = 0
    this.#sequencerIndex = 0
    this.#graphicsIndex = 0
    this.#crtcIndex = 0
    this.#attributeIndex = 0
    this.#attributeFlip = false
    this.#retrace = 0
    this.#dacRead = 0
    this.#dacWrite = 0
    this.#dacPart = 0
    this.#dacReading = false
  }

  /** Reads one byte at 0x3b0 to 0x3df. */
  read(port: number): number {
    if (this.#isAbsent(port)) return 0xff
    switch (port) {
      case 0x3c0:
        return this.#attributeFlip ? 0 : this.#attributeIndex
      case 0x3c1:
        return this.attribute[this.#attributeIndex & 0x1f] ?? 0
      case 0x3c2:
        return 0
      case 0x3c4:
        return this.#sequencerIndex
      case 0x3c5:
        return this.sequencer[this.#sequencerIndex]!
      case 0x3c6:
        return this.pixelMask
      case 0x3c7:
        return this.#dacReading ? 3 : 0
      case 0x3c8:
        return this.#dacWrite
      case 0x3c9:
        return this.#readPalette()
      case 0x3ca:
        return this.#feature
      case 0x3cc:
        return this.misc
      case 0x3ce:
        return this.#graphicsIndex
      case 0x3cf:
        return this.graphics[this.#graphicsIndex] ?? 0
      case 0x3b4:
      case 0x3d4:
        return this.#crtcIndex
      case 0x3b5:
      case 0x3d5:
        return this.crtc[this.#crtcIndex] ?? 0
      case 0x3ba:
      case 0x3da:
        // Who waits for a retrace, or for its end, does not wait long.
        this.#retrace ^= RETRACE
        this.#attributeFlip = false
        return this.#retrace
      default:
        return 0xff
    }
  }

  /** Writes one byte at 0x3b0 to 0x3df. */
  write(port: number, value: number): void {
    if (this.#isAbsent(port)) return
    switch (port) {
      case 0x3c0:
        this.#writeAttribute(value)
        break
      case 0x3c2:
        this.misc = value & ~0x10
        break
      case 0x3c4:
        this.#sequencerIndex = value & 7
        break
      case 0x3c5:
        if (SEQUENCER_MASKS[this.#sequencerIndex] === 0) {
          this.#unknown('write of sequencer register', this.#sequencerIndex)
        }
        this.sequencer[this.#sequencerIndex] = value & SEQUENCER_MASKS[this.#sequencerIndex]!
        this.onMemoryChange()
        break
      case 0x3c6:
        this.pixelMask = value
        break
      case 0x3c7:
        this.#dacRead = value
        this.#dacPart = 0
        this.#dacReading = true
        break
      case 0x3c8:
        this.#dacWrite = value
        this.#dacPart = 0
        this.#dacReading = false
        break
      case 0x3c9:
        this.#writePalette(value)
        break
      case 0x3ce:
        this.#graphicsIndex = value & 0x0f
        break
      case 0x3cf: {
        const mask = GRAPHICS_MASKS[this.#graphicsIndex]
        if (mask === undefined) {
          this.#unknown('write of graphics register', this.#graphicsIndex)
          break
        }
        this.graphics[this.#graphicsIndex] = value & mask
        this.onMemoryChange()
        break
      }
      case 0x3b4:
      case 0x3d4:
        this.#crtcIndex = value
        break
      case 0x3b5:
      case 0x3d5:
        this.#writeCrtc(value)
        break
      case 0x3ba:
      case 0x3da:
        this.#feature = value & 0x10
        break
      default:
        break
    }
  }

  save(): VgaRegistersState {
    return {
      misc: this.misc,
      feature: this.#feature,
      sequencerIndex: this.#sequencerIndex,
      sequencer: this.sequencer.slice(),
      graphicsIndex: this.#graphicsIndex,
      graphics: this.graphics.slice(),
      crtcIndex: this.#crtcIndex,
      crtc: this.crtc.slice(),
      attributeIndex: this.#attributeIndex,
      attributeFlip: this.#attributeFlip,
      attribute: this.attribute.slice(),
      retrace: this.#retrace,
      pixelMask: this.pixelMask,
      dacRead: this.#dacRead,
      dacWrite: this.#dacWrite,
      dacPart: this.#dacPart,
      dacReading: this.#dacReading,
      palette: this.palette.slice(),
    }
  }

  load(state: unknown): void {
    const saved = parseState<VgaRegistersState>('vga', state, {
      misc: u8,
      feature: u8,
      sequencerIndex: int(0, 7),
      sequencer: bytes(8),
      graphicsIndex: int(0, 15),
      graphics: bytes(9),
      crtcIndex: u8,
      crtc: bytes(CRTC_COUNT),
      attributeIndex: int(0, 0x3f),
      attributeFlip: flag,
      attribute: bytes(ATTRIBUTE_COUNT),
      retrace: u8,
      pixelMask: u8,
      dacRead: u8,
      dacWrite: u8,
      dacPart: int(0, 2),
      dacReading: flag,
      palette: bytes(PALETTE_BYTES),
    })
    this.misc = saved.misc & ~0x10
    this.pixelMask = saved.pixelMask
    this.#feature = saved.feature & 0x10
    this.#sequencerIndex = saved.sequencerIndex
    this.#graphicsIndex = saved.graphicsIndex
    this.#crtcIndex = saved.crtcIndex
    this.#attributeIndex = saved.attributeIndex
    this.#attributeFlip = saved.attributeFlip
    this.#retrace = saved.retrace & RETRACE
    this.#dacRead = saved.dacRead
    this.#dacWrite = saved.dacWrite
    this.#dacPart = saved.dacPart
    this.#dacReading = saved.dacReading
    this.sequencer.set(saved.sequencer.map((value, i) => value & SEQUENCER_MASKS[i]!))
    this.graphics.set(saved.graphics.map((value, i) => value & GRAPHICS_MASKS[i]!))
    this.crtc.set(saved.crtc)
    this.attribute.set(saved.attribute)
    this.palette.set(saved.palette)
  }

  /** Ports of the other of monochrome and colour. */
  #isAbsent(port: number): boolean {
    const isColor = (this.misc & MISC_COLOR) !== 0
    return isColor ? port >= 0x3b0 && port <= 0x3bf : port >= 0x3d0 && port <= 0x3df
  }

  #writeAttribute(value: number): void {
    this.#attributeFlip = !this.#attributeFlip
    if (this.#attributeFlip) {
      this.#attributeIndex = value & 0x3f
      return
    }
    const index = this.#attributeIndex & 0x1f
    if (index < 0x10) this.attribute[index] = value & 0x3f
    else if (index === 0x10) this.attribute[index] = value & ~0x10
    else if (index === 0x11) this.attribute[index] = value
    else if (index === 0x12) this.attribute[index] = value & ~0xc0
    else if (index < ATTRIBUTE_COUNT) this.attribute[index] = value & 0x0f
    else this.#unknown('write of attribute register', index)
  }

  #writeCrtc(value: number): void {
    const index = this.#crtcIndex
    if (index >= CRTC_COUNT) {
      this.#unknown('write of CRTC register', index)
      return
    }
    const isProtected = (this.crtc[CRTC_PROTECT]! & 0x80) !== 0 && index <= CRTC_OVERFLOW
    if (!isProtected) this.crtc[index] = value
    // Of what is protected, one bit of the line compare register is not.
    else if (index === CRTC_OVERFLOW)
      this.crtc[index] = (this.crtc[index]! & ~0x10) | (value & 0x10)
  }

  #readPalette(): number {
    const value = this.palette[this.#dacRead * 3 + this.#dacPart]!
    this.#dacPart = (this.#dacPart + 1) % 3
    if (this.#dacPart === 0) this.#dacRead = (this.#dacRead + 1) & 0xff
    return value
  }

  #writePalette(value: number): void {
    this.palette[this.#dacWrite * 3 + this.#dacPart] = value & this.dacMask
    this.#dacPart = (this.#dacPart + 1) % 3
    if (this.#dacPart === 0) this.#dacWrite = (this.#dacWrite + 1) & 0xff
  }
}
