import { MemFlag } from 'kvm-core'
import type { GuestRam, Vm } from 'kvm-core'

import { Cfi01Flash, FLASH_SECTOR_BYTES } from '../chipset/pflash/cfi01.ts'
import type { FlashState } from '../chipset/pflash/cfi01.ts'
import type { IoHandler } from '../device.ts'
import type { PluggedDevice } from '../devices/device-type.ts'
import type { Bus } from './bus.ts'
import type { MachineConfig } from './config.ts'
import type { Drive } from './drive.ts'
import type { FlashImage } from './flash-image.ts'

const GIB4 = 0x1_0000_0000
/** Memslots of firmware have the numbers below, those of devices the numbers above. */
const FIRST_SLOT = 24

type VmParts = Pick<Vm, 'createRam' | 'setUserMemoryRegion'>

/** Puts flash chips below 4 GiB, the first one last. */
export function mapFlash(
  vm: VmParts,
  bus: Bus,
  images: readonly FlashImage[],
  { machine }: MachineConfig,
  log: (message: string) => void,
): FlashChip[] {
  const isSecure = machine?.options?.secureFlash === true
  let end = GIB4
  return images.map((image, i) => {
    end -= image.bytes.length
    return new FlashChip(vm, bus, { image, gpa: end, slot: FIRST_SLOT + i, isSecure, log })
  })
}

interface Place {
  image: FlashImage
  gpa: number
  slot: number
  /** The chip obeys code in system management mode alone, and shows its array to all other. */
  isSecure: boolean
  log(message: string): void
}

/**
 * A flash chip of the board: memory that the guest reads as such while the chip shows its array, and
 * an image that follows what is written.
 */
export class FlashChip implements PluggedDevice {
  readonly name: string
  readonly #vm: VmParts
  readonly #ram: GuestRam
  readonly #place: Place
  readonly #chip: Cfi01Flash
  readonly #image: ImageWriter
  #isShown = false

  constructor(vm: VmParts, bus: Bus, place: Place) {
    const { image, gpa } = place
    const { length: size } = image.bytes
    this.name = image.name
    this.#vm = vm
    this.#place = place
    this.#ram = vm.createRam({ size })
    const bytes = new Uint8Array(this.#ram.segment(0))
    bytes.set(image.bytes)
    this.#image = new ImageWriter(image.drive, bytes, (error) => {
      place.log(`${image.name}: what the guest wrote is not in its image: ${error.message}`)
    })
    this.#chip = new Cfi01Flash(
      image.name,
      {
        bytes,
        showArray: (shown) => this.#show(shown),
        written: (offset, length) => {
          if (this.#isShown) this.#ram.markWritten(offset, length)
          this.#image.written(offset, length)
        },
      },
      image.drive.readOnly,
    )
    const chip = this.#chip
    const guarded: IoHandler = {
      read: (offset, size) => (bus.isFromSmm ? chip.read(offset, size) : chip.array(offset, size)),
      write: (offset, size, value) => {
        if (bus.isFromSmm) chip.write(offset, size, value)
      },
    }
    const handler = place.isSecure ? guarded : chip
    bus.mmio.map({ name: image.name, base: gpa, len: size, handler })
    this.#show(true)
  }

  reset(): void {
    this.#chip.reset()
  }

  save(): FlashState {
    return this.#chip.save()
  }

  load(state: FlashState): void {
    this.#chip.load(state)
  }

  quiesce(): Promise<void> {
    return this.#image.quiesce()
  }

  close(): void {
    this.#show(false)
    this.#ram.detach()
  }

  /** Reads reach memory, or leave the guest and reach the chip. Writes always do. */
  #show(shown: boolean): void {
    if (shown === this.#isShown) return
    this.#isShown = shown
    const { slot, gpa } = this.#place
    this.#vm.setUserMemoryRegion(
      shown
        ? { slot, gpa, size: this.#ram.size, ram: this.#ram, offset: 0, flags: MemFlag.Readonly }
        : { slot, gpa, size: 0 },
    )
  }
}

/** Writes sectors that have changed to an image, each with the contents that it has by then. */
class ImageWriter {
  readonly #drive: Drive
  readonly #bytes: Uint8Array
  readonly #onError: (error: Error) => void
  readonly #dirty = new Set<number>()
  #writing: Promise<void> | undefined

  constructor(drive: Drive, bytes: Uint8Array, onError: (error: Error) => void) {
    this.#drive = drive
    this.#bytes = bytes
    this.#onError = onError
  }

  written(offset: number, length: number): void {
    const first = Math.floor(offset / FLASH_SECTOR_BYTES)
    const last = Math.floor((offset + length - 1) / FLASH_SECTOR_BYTES)
    for (let sector = first; sector <= last; sector++) this.#dirty.add(sector)
    this.#writing ??= this.#write().finally(() => {
      this.#writing = undefined
    })
  }

  async quiesce(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing
  }

  async #write(): Promise<void> {
    // A command programs many bytes one after the other: they go together.
    await Promise.resolve()
    try {
      for (const sector of this.#dirty) {
        this.#dirty.delete(sector)
        const at = sector * FLASH_SECTOR_BYTES
        await this.#drive.writev(at, [this.#bytes.slice(at, at + FLASH_SECTOR_BYTES)])
      }
    } catch (error) {
      this.#onError(error instanceof Error ? error : new Error(String(error)))
    }
  }
}
