import type { GuestMemory as VmMemory } from 'kvm-core'
import type { GuestMemory } from 'virtio'

/** Guest memory as virtio devices see it. */
export function virtioMemory(memory: VmMemory): GuestMemory {
  return {
    get generation() {
      return memory.generation
    },
    pieces(gpa, length) {
      const pieces: Uint8Array[] = []
      for (let done = 0; done < length;) {
        const { gpa: start, bytes } = memory.piece(gpa + done)
        const from = gpa + done - start
        const here = Math.min(length - done, bytes.length - from)
        pieces.push(new Uint8Array(bytes.buffer, bytes.byteOffset + from, here))
        done += here
      }
      return pieces
    },
    window: (gpa, length) => ({ buffer: memory.window(gpa, length), byteOffset: 0 }),
    piece: (gpa) => memory.piece(gpa),
    isWritable: (gpa, length) => memory.isWritable(gpa, length),
    markWritten: (gpa, length) => memory.markWritten(gpa, length),
    markAllWritten: (gpas, lengths, first, end) => memory.markAllWritten(gpas, lengths, first, end),
  }
}
