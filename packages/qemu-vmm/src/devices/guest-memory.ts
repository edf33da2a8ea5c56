import type { GuestMemory as VmMemory } from 'kvm-core'
import type { GuestMemory } from 'virtio'

/** RAM is cut into segments of this size, each with a buffer of its own. */
const SEGMENT_BYTES = 2 ** 30

/** Guest memory as virtio devices see it. The machine's slots never change. */
export function virtioMemory(memory: VmMemory): GuestMemory {
  return {
    generation: 0,
    pieces(gpa, length) {
      const pieces: Uint8Array[] = []
      for (let at = gpa, left = length; left > 0;) {
        const here = Math.min(left, SEGMENT_BYTES - (at % SEGMENT_BYTES))
        const view = memory.view(at, here)
        pieces.push(new Uint8Array(view.buffer, view.byteOffset, here))
        at += here
        left -= here
      }
      return pieces
    },
    window: (gpa, length) => ({ buffer: memory.window(gpa, length), byteOffset: 0 }),
    markWritten: (gpa, length) => memory.markWritten(gpa, length),
  }
}
