import { KvmError, MemFlag } from 'kvm-core'
import type { GuestRam, Vm } from 'kvm-core'

import type { VideoMemory } from '../chipset/vga/video-memory.ts'

/** Memslots of RAM and firmware have the numbers below. */
const FIRST_SLOT = 32
const PLACES = 2
const PAGE = 4096

type VmParts = Pick<Vm, 'createRam' | 'setUserMemoryRegion' | 'getDirtyLog'>

interface Place {
  readonly slot: number
  gpa: number
  size: number
  offset: number
}

/** RAM of devices, which memslots of their own show to the guest. */
export class DeviceRams {
  readonly #vm: VmParts
  readonly #rams: GuestRam[] = []

  constructor(vm: VmParts) {
    this.#vm = vm
  }

  create(size: number): VideoMemory {
    const ram = this.#vm.createRam({ size })
    const first = FIRST_SLOT + this.#rams.length * PLACES
    this.#rams.push(ram)
    return new DeviceRam(this.#vm, ram, first)
  }

  close(): void {
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

  constructor(vm: VmParts, ram: GuestRam, firstSlot: number) {
    this.#vm = vm
    this.#ram = ram
    this.#firstSlot = firstSlot
    this.bytes = new Uint8Array(ram.segment(0))
    this.#dirty = new Uint8Array(Math.ceil(ram.size / PAGE / 8))
  }

  show(index: 0 | 1, gpa: number | undefined, size = this.#ram.size, offset = 0): boolean {
    const before = this.#places[index]
    if (before !== undefined) {
      this.#harvest(before)
      this.#vm.setUserMemoryRegion({ slot: before.slot, gpa: before.gpa, size: 0 })
      this.#places[index] = undefined
    }
    if (gpa === undefined) return true
    const place = { slot: this.#firstSlot + index, gpa, size, offset }
    try {
      const flags = MemFlag.LogDirtyPages
      this.#vm.setUserMemoryRegion({ ...place, ram: this.#ram, flags })
    } catch (error) {
      // A guest may put video memory over RAM or ROM, which wins.
      if (error instanceof KvmError) return false
      throw error
    }
    this.#places[index] = place
    return true
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
    for (const place of this.#places) if (place !== undefined) this.#harvest(place)
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
