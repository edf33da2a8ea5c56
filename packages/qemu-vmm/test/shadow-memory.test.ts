import test from 'ava'
import * as fc from 'fast-check'
import { MemFlag } from 'kvm-core'
import type { GuestRam, UserMemoryRegion, Vm } from 'kvm-core'

import {
  PAM_AREAS,
  PAM_COUNT,
  PAM_FIRST,
  PAM_READ,
  PAM_WRITE,
  pamModes,
} from '../src/chipset/pci/pam.ts'
import { HostBridge } from '../src/chipset/pci/i440fx.ts'
import { Mch } from '../src/chipset/pci/mch.ts'
import { Bus } from '../src/machine/bus.ts'
import { ShadowMemory } from '../src/machine/shadow-memory.ts'

const KIB = 1024
const END = 0x10_0000

/** Memslots with KVM's rules, as far as they matter here. */
class Slots {
  readonly all = new Map<number, UserMemoryRegion>()
  readonly vm = {
    createRam: ({ size }: { size: number }) => ({ size, segment: () => new ArrayBuffer(size) }),
    setUserMemoryRegions: (regions: readonly UserMemoryRegion[]) => {
      for (const region of regions) this.#set(region)
    },
  } as unknown as Vm

  #set(region: UserMemoryRegion): void {
    const { slot, gpa, size } = region
    if (size === 0) {
      if (!this.all.delete(slot)) throw new Error(`slot ${slot} does not exist`)
      return
    }
    if (this.all.has(slot)) throw new Error(`slot ${slot} is taken`)
    for (const other of this.all.values()) {
      if (gpa < other.gpa + other.size && other.gpa < gpa + size) throw new Error('an overlap')
    }
    this.all.set(slot, region)
  }

  at(gpa: number): UserMemoryRegion | undefined {
    return [...this.all.values()].find((slot) => slot.gpa <= gpa && gpa < slot.gpa + slot.size)
  }
}

test('every sequence of attributes shows what they say, in as few slots as can be', (t) => {
  const mode = fc.integer({ min: 0, max: 3 })
  const modes = fc.array(mode, { minLength: PAM_AREAS.length, maxLength: PAM_AREAS.length })
  const bios = fc.constantFrom(64 * KIB, 128 * KIB, 256 * KIB)
  fc.assert(
    fc.property(bios, fc.array(modes, { maxLength: 12 }), (biosBytes, sequence) => {
      const slots = new Slots()
      const ram = {} as GuestRam
      const image = { path: 'bios', bytes: new Uint8Array(biosBytes) }
      const shadow = new ShadowMemory(slots.vm, ram, image)
      const lowBios = END - Math.min(biosBytes, 128 * KIB)
      for (const present of sequence) {
        shadow.show(Uint8Array.from(present))
        let pieces = 1
        let before: UserMemoryRegion | undefined
        for (const [i, { gpa, size }] of PAM_AREAS.entries()) {
          const slot = slots.at(gpa)
          if (slot !== slots.at(gpa + size - 1)) throw new Error('an area in two slots')
          if (slot !== before && slot !== undefined) pieces++
          before = slot
          if (present[i] !== 0) {
            if (slot?.ram !== ram || slot.offset! + gpa - slot.gpa !== gpa)
              throw new Error('no RAM')
            const readOnly = (slot.flags! & MemFlag.Readonly) !== 0
            if (readOnly !== (present[i] === PAM_READ)) throw new Error('a wrong flag')
          } else if (gpa < lowBios) {
            if (slot !== undefined) throw new Error('something where nothing is')
          } else if (
            slot === undefined ||
            slot.offset! + gpa - slot.gpa !== biosBytes - END + gpa
          ) {
            throw new Error('no BIOS')
          }
        }
        if (pieces !== slots.all.size) throw new Error(`${slots.all.size} slots`)
      }
    }),
  )
  t.pass()
})

test('the registers: two areas in each, but the first has the BIOS segment alone', (t) => {
  const config = new Uint8Array(256)
  const modes = new Uint8Array(PAM_AREAS.length)
  config.set([0xff, 0x21, 0, 0, 0, 0, 0x12], PAM_FIRST)
  pamModes(config, modes)
  t.is(PAM_COUNT, 7)
  t.deepEqual([...modes], [1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, PAM_READ | PAM_WRITE])
  t.like(PAM_AREAS[0], { gpa: 0xc_0000, size: 16 * KIB })
  t.like(PAM_AREAS[12], { gpa: 0xf_0000, size: 64 * KIB })
})

for (const Bridge of [HostBridge, Mch]) {
  test(`${Bridge.name}: RAM that is shown stays over a reset, unless PCI is reset`, (t) => {
    let shown: number[] = []
    const bridge = new Bridge(new Bus(), {
      show: (modes) => {
        shown = [...modes]
      },
      restore() {},
    })
    const all = (mode: number): number[] => PAM_AREAS.map(() => mode)
    if (bridge instanceof HostBridge) bridge.showRam()
    else bridge.setUp()
    bridge.fn.reset()
    t.deepEqual(shown, all(PAM_READ | PAM_WRITE))
    bridge.hideRam()
    t.deepEqual(shown, all(0))
  })
}
