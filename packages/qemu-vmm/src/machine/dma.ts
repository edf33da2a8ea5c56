import type { GuestMemory } from 'kvm-core'

/** What a device writes to where nothing keeps it. */
const NOWHERE = new Uint8Array(1 << 16)

/**
 * A device's write to guest memory, as on the bus: what goes to ROM is lost, and nobody is told.
 * Throws KvmError EFAULT, before anything is copied, when a part of the range is in no memslot.
 */
export function dmaWrite(memory: GuestMemory, gpa: number, source: Uint8Array): void {
  if (memory.isWritable(gpa, source.length) || !memory.contains(gpa, source.length)) {
    return memory.write(gpa, source)
  }
  for (let done = 0; done < source.length;) {
    const { gpa: start, bytes, readOnly } = memory.piece(gpa + done)
    const end = Math.min(source.length, start + bytes.length - gpa)
    if (!readOnly) memory.write(gpa + done, source.subarray(done, end))
    done = end
  }
}

/**
 * Adds the pieces of guest memory that a range consists of; false, with nothing added, when it has a
 * hole. With `toMemory` the bytes of ROM are replaced by some that nobody reads.
 */
export function dmaPieces(
  memory: GuestMemory,
  base: number,
  length: number,
  toMemory: boolean,
  pieces: Uint8Array[],
  addresses: number[],
): boolean {
  if (!memory.contains(base, length)) return false
  for (let done = 0; done < length;) {
    const gpa = base + done
    const { gpa: start, bytes, readOnly } = memory.piece(gpa)
    const from = gpa - start
    let here = Math.min(length - done, bytes.length - from)
    if (toMemory && readOnly) {
      here = Math.min(here, NOWHERE.length)
      pieces.push(NOWHERE.subarray(0, here))
    } else pieces.push(new Uint8Array(bytes.buffer, bytes.byteOffset + from, here))
    addresses.push(gpa)
    done += here
  }
  return true
}
