import { MemFlag } from 'kvm-core'
import type { GuestRam, UserMemoryRegion, Vm } from 'kvm-core'

import { PAM_AREAS, PAM_READ } from '../chipset/pci/pam.ts'
import type { ShadowControl } from '../chipset/pci/pam.ts'
import { LOW_BIOS_BYTES } from '../firmware/bios-image.ts'
import type { BiosImage } from '../firmware/bios-image.ts'

const GIB4 = 0x1_0000_0000
const MIB = 1 << 20
/** Memslots of RAM have the numbers below. */
const HIGH_BIOS_SLOT = 8
const FIRST_SLOT = 9

type Parts = Pick<Vm, 'createRam' | 'setUserMemoryRegions'>

/** Addresses that show one piece of memory. */
interface Run {
  gpa: number
  size: number
  ram: GuestRam
  offset: number
  readOnly: boolean
}

/**
 * What the guest finds between 768 KiB and 1 MiB: RAM, RAM that it cannot write, the BIOS, or
 * nothing, as the host bridge says for each of thirteen areas. And the BIOS at the end of the
 * 4 GiB.
 *
 * Neighbours that show the same memory share a memslot: a driver's queue may lie across them. All
 * slots of a change change at once, because other processors may run what is there.
 */
export class ShadowMemory implements ShadowControl {
  readonly #vm: Parts
  readonly #ram: GuestRam
  readonly #image: Pick<BiosImage, 'bytes'> | undefined
  readonly #bios: GuestRam | undefined
  readonly #free: number[] = Array.from({ length: PAM_AREAS.length }, (_, i) => FIRST_SLOT + i)
  readonly #shown = new Map<number, Run>()

  /**
   * `ram` is that of the machine, whose bytes have their addresses as offsets here. With `inFlash` the
   * BIOS is seen below 1 MiB only: the chip that it is in shows it at the end of the 4 GiB.
   */
  constructor(vm: Parts, ram: GuestRam, bios?: Pick<BiosImage, 'bytes'>, inFlash = false) {
    this.#vm = vm
    this.#ram = ram
    this.#image = bios
    this.#bios = bios === undefined ? undefined : this.#createBios(bios, inFlash)
  }

  /** `modes` has a value of `PAM_READ` and `PAM_WRITE` for each area. */
  show(modes: Uint8Array): void {
    const wanted = this.#runs(modes)
    const changes: UserMemoryRegion[] = []
    for (const [slot, run] of this.#shown) {
      const at = wanted.findIndex((other) => same(run, other))
      if (at >= 0) {
        wanted.splice(at, 1)
        continue
      }
      changes.push({ slot, gpa: run.gpa, size: 0 })
      this.#shown.delete(slot)
      this.#free.push(slot)
    }
    for (const run of wanted) {
      const slot = this.#free.pop()!
      changes.push(region(slot, run))
      this.#shown.set(slot, run)
    }
    if (changes.length > 0) this.#vm.setUserMemoryRegions(changes)
  }

  restore(): void {
    if (this.#bios === undefined || this.#image === undefined) return
    new Uint8Array(this.#bios.segment(0)).set(this.#image.bytes)
    this.#bios.markWritten(0, this.#bios.size)
  }

  #runs(modes: Uint8Array): Run[] {
    const runs: Run[] = []
    for (const [i, { gpa, size }] of PAM_AREAS.entries()) {
      const run = this.#area(gpa, size, modes[i]!)
      if (run === undefined) continue
      const last = runs.at(-1)
      if (last !== undefined && continues(last, run)) last.size += size
      else runs.push(run)
    }
    return runs
  }

  #area(gpa: number, size: number, mode: number): Run | undefined {
    // An area whose writes alone go to RAM is RAM altogether.
    if (mode !== 0) return { gpa, size, ram: this.#ram, offset: gpa, readOnly: mode === PAM_READ }
    const bios = this.#bios
    if (bios === undefined || gpa < MIB - Math.min(bios.size, LOW_BIOS_BYTES)) return undefined
    return { gpa, size, ram: bios, offset: bios.size - (MIB - gpa), readOnly: true }
  }

  #createBios({ bytes }: Pick<BiosImage, 'bytes'>, inFlash: boolean): GuestRam {
    const bios = this.#vm.createRam({ size: bytes.length })
    new Uint8Array(bios.segment(0)).set(bytes)
    if (inFlash) return bios
    const { length: size } = bytes
    const run = { gpa: GIB4 - size, size, ram: bios, offset: 0, readOnly: true }
    this.#vm.setUserMemoryRegions([region(HIGH_BIOS_SLOT, run)])
    return bios
  }
}

function region(slot: number, { gpa, size, ram, offset, readOnly }: Run): UserMemoryRegion {
  return { slot, gpa, size, ram, offset, flags: readOnly ? MemFlag.Readonly : 0 }
}

function same(a: Run, b: Run): boolean {
  return a.gpa === b.gpa && a.size === b.size && a.ram === b.ram && a.readOnly === b.readOnly
}

function continues(a: Run, b: Run): boolean {
  return a.ram === b.ram && a.readOnly === b.readOnly && a.offset + a.size === b.offset
}
