import type { GuestMemory } from 'kvm-core'

import { dmaWrite } from '../machine/dma.ts'

/** Guest memory as a card on the bus reaches it: false where there is none, or the card may not. */
export interface DmaMemory {
  read(address: number, target: Uint8Array): boolean
  write(address: number, source: Uint8Array): boolean
}

/** `isMaster` says whether the guest lets the function use the bus. */
export function dmaMemory(memory: GuestMemory, isMaster: () => boolean): DmaMemory {
  const reaches = (address: number, bytes: number): boolean =>
    isMaster() && memory.contains(address, bytes)
  return {
    read(address, target) {
      if (!reaches(address, target.length)) return false
      memory.read(address, target)
      return true
    },
    write(address, source) {
      if (!reaches(address, source.length)) return false
      dmaWrite(memory, address, source)
      return true
    },
  }
}
