import { KvmError, MemFlag } from 'kvm-core'
import type { GuestRam, Vm } from 'kvm-core'

import type { VideoMemory } from '../chipset/vga/video-memory.ts'

/** Memslots of RAM and firmware have the numbers below. */
const FIRST_SLOT = 32
const PLACES = 2
const PAGE = 4096

type VmParts = Pick<Vm, 'createRam' | 'setUserMemoryRegion' | 'getDirtyLog'>

/** Guest-physical addresses. */
export interface Range {
  gpa: number
  size: number
}

interface Place extends Range {
  readonly slot: number
  offset: number
  /** Other memory is there, for the time being. */
  isCovered: boolean
}

/** RAM of devices, which memslots of their own show to the guest. */
export class DeviceRams {
  readonly #vm: VmParts
  readonly #rams: GuestRam[] = []
  readonly #shown: DeviceRam[] = []
  #covered: readonly Range[] = []

  constructor(vm: VmParts) {
    this.#vm = vm
  }

  create(size: number): VideoMemory {
    const ram = this.#vm.createRam({ size })
    const first = FIRST_SLOT + this.#rams.length * PLACES
    this.#rams.push(ram)
    const shown = new DeviceRam(this.#vm, ram, first, () => this.#covered)
    this.#shown.push(shown)
    return shown
  }

  /** Hides what is in any of the ranges, because other memory is there, until they are others. */
  cover(ranges: readonly Range[]): void {
    this.#covered = ranges
    for (const shown of this.#shown) shown.followCover()
  }

  close(): void {
    this.#shown.length = 0
    for (const ram of this.#rams.splice(0)) ram.detach()
  }
}

class DeviceRam implements VideoMemory {
  readonly bytes: Uint8Array
  readonly #vm: VmParts
  readonly #ram: GuestRam
  readonly #places: (Place | undefined)[] = []
  readonly #firstSlot: number
  readonly #dirty: Uint8Array
  readonly #cover: () => readonly Range[]

  constructor(vm: VmParts, ram: GuestRam, firstSlot: number, cover: () => readonly Range[]) {
    this.#vm = vm
    this.#cover = cover
    this.#ram = ram
    this.#firstSlot = firstSlot
    this.bytes = new Uint8Array(ram.segment(0))
    this.#dirty = new Uint8Array(Math.ceil(ram.size / PAGE / 8))
  }

  show(index: 0 | 1, gpa: number | undefined, size = this.#ram.size, offset = 0): boolean {
    const before = this.#places[index]
    if (before !== undefined) {
      this.#hide(before)
      this.#places[index] = undefined
    }
    if (gpa === undefined) return true
    const place = { slot: this.#firstSlot + index, gpa, size, offset, isCovered: false }
    if (!this.#put(place)) return false
    this.#places[index] = place
    return true
  }

  /** Shows what is not covered any more, and hides what is. */
  followCover(): void {
    for (const [index, place] of this.#places.entries()) {
      if (place === undefined || place.isCovered === this.#isCovered(place)) continue
      if (place.isCovered) {
        if (!this.#put(place)) this.#places[index] = undefined
      } else {
        this.#hide(place)
        place.isCovered = true
      }
    }
  }

  /** False where a guest has put video memory over RAM or ROM, which wins. */
  #put(place: Place): boolean {
    place.isCovered = this.#isCovered(place)
    if (place.isCovered) return true
    const { slot, gpa, size, offset } = place
    try {
      const flags = MemFlag.LogDirtyPages
      this.#vm.setUserMemoryRegion({ slot, gpa, size, offset, ram: this.#ram, flags })
      return true
    } catch (error) {
      if (error instanceof KvmError) return false
      throw error
    }
  }

  #hide(place: Place): void {
    if (place.isCovered) return
    this.#harvest(place)
    this.#vm.setUserMemoryRegion({ slot: place.slot, gpa: place.gpa, size: 0 })
  }

  #isCovered({ gpa, size }: Range): boolean {
    return this.#cover().some((one) => gpa < one.gpa + one.size && one.gpa < gpa + size)
  }

  markWritten(offset: number, length: number): void {
    if (length === 0) return
    for (let page = Math.floor(offset / PAGE); page * PAGE < offset + length; page++) {
      this.#dirty[page >> 3]! |= 1 << (page & 7)
    }
    // What nobody has mapped has no code and no log.
    if (this.#places.some((place) => place !== undefined)) this.#ram.markWritten(offset, length)
  }

  takeDirty(): Uint8Array {
    for (const place of this.#places) if (place?.isCovered === false) this.#harvest(place)
    const dirty = this.#dirty.slice()
    this.#dirty.fill(0)
    return dirty
  }

  /** Adds what the guest has written at one of its addresses. */
  #harvest({ slot, offset }: Place): void {
    const log = this.#vm.getDirtyLog(slot)
    const first = offset / PAGE
    for (const [at, bits] of log.entries()) {
      if (bits === 0) continue
      for (let bit = 0; bit < 8; bit++) {
        if (((bits >> bit) & 1) === 0) continue
        const page = first + at * 8 + bit
        if (page >> 3 < this.#dirty.length) this.#dirty[page >> 3]! |= 1 << (page & 7)
      }
    }
  }
}
