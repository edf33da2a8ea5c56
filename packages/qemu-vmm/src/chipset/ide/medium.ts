import type { MemoryParts } from 'virtio'

import type { Drive } from '../../machine/drive.ts'

/** Bytes of a drive for one device, at once where that works. */
export class Medium {
  readonly drive: Drive
  #parts: Uint32Array = new Uint32Array(3 * 16)

  constructor(drive: Drive) {
    this.drive = drive
  }

  /** Fills the buffers if that is possible without waiting; false, with nothing known of them. */
  readNow(position: number, buffers: readonly Uint8Array[]): boolean {
    const { drive } = this
    if (drive.readNow === undefined) return false
    const count = buffers.length
    if (this.#parts.length < 3 * count) this.#parts = new Uint32Array(3 * count)
    const parts = this.#parts
    let length = 0
    for (let i = 0; i < count; i++) {
      const bytes = buffers[i]!.length
      parts[3 * i] = i
      parts[3 * i + 1] = 0
      parts[3 * i + 2] = bytes
      length += bytes
    }
    const target: MemoryParts = { buffers, parts, count, length }
    return drive.readNow(position, target)
  }
}
