import type { IoHandler, Stateful } from '../../device.ts'
import { bytes, parseState } from '../../machine/state.ts'

/** The block that the root complex base address register shows (ICH9 data sheet, 10.1). */
export const CHIP_CONFIG_BYTES = 0x4000
/** Interrupt routes of the slots 31 down to 25, four bits for each pin. */
const ROUTES = [0x3140, undefined, 0x3144, 0x3146, 0x3148, 0x314c, 0x3150] as const
const FIRST_ROUTED_SLOT = 25
const LAST_SLOT = 31
const ROUTES_DEFAULT = 0x3210
/** General control and status: the watchdog may not reset. */
const GCS = 0x3410
const GCS_NO_REBOOT = 0x20
/** Slots without a route of their own use the upper four inputs. */
const UPPER_INPUTS = 4

export interface ChipConfigState {
  bytes: Uint8Array
}

/** The ICH9's chip configuration registers: memory, of which the interrupt routes count. */
export class ChipConfig implements Stateful<ChipConfigState>, IoHandler {
  readonly #bytes: DataView = new DataView(new ArrayBuffer(CHIP_CONFIG_BYTES))
  /** Told when routes may have changed. */
  onRoutes: () => void = () => {}

  constructor() {
    this.#powerOn()
  }

  /** The input A..H, as 0..7, to which a pin (1 = INTA) of a slot on bus 0 is wired. */
  line(slot: number, pin: number): number {
    const at = slot >= FIRST_ROUTED_SLOT ? ROUTES[LAST_SLOT - slot] : undefined
    if (at !== undefined) return (this.#bytes.getUint16(at, true) >> ((pin - 1) * 4)) & 7
    // The bridge to conventional PCI has fixed ones.
    if (slot === LAST_SLOT - 1) return ((pin - 1) & 3) + UPPER_INPUTS
    return ((slot + pin - 1) & 3) + UPPER_INPUTS
  }

  reset(): void {
    this.#powerOn()
    this.onRoutes()
  }

  save(): ChipConfigState {
    return { bytes: new Uint8Array(this.#bytes.buffer.slice(0)) }
  }

  load(state: ChipConfigState): void {
    const saved = parseState<ChipConfigState>('chip-config', state, {
      bytes: bytes(CHIP_CONFIG_BYTES),
    })
    new Uint8Array(this.#bytes.buffer).set(saved.bytes)
    this.onRoutes()
  }

  read(offset: number, size: number): number {
    let value = 0
    for (let i = 0; i < size; i++) {
      const at = offset + i
      value |= (at < CHIP_CONFIG_BYTES ? this.#bytes.getUint8(at) : 0) << (i * 8)
    }
    return value >>> 0
  }

  write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size && offset + i < CHIP_CONFIG_BYTES; i++) {
      this.#bytes.setUint8(offset + i, (value >>> (i * 8)) & 0xff)
    }
    this.onRoutes()
  }

  #powerOn(): void {
    new Uint8Array(this.#bytes.buffer).fill(0)
    for (const at of ROUTES) if (at !== undefined) this.#bytes.setUint16(at, ROUTES_DEFAULT, true)
    this.#bytes.setUint32(GCS, GCS_NO_REBOOT, true)
  }
}
