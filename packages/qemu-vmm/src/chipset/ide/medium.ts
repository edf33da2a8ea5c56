import type { MemoryParts } from 'virtio'

import type { Drive } from '../../machine/drives.ts'

/** Bytes of a drive for one device: at once where that works, and into lists of buffers. */
export class Medium {
  readonly drive: Drive
  readonly #parts: Uint32Array = new Uint32Array(3)
  readonly #buffers: Uint8Array[] = []
  readonly #one: MemoryParts & { length: number }

  constructor(drive: Drive) {
    this.drive = drive
    this.#one = { buffers: this.#buffers, parts: this.#parts, count: 1, length: 0 }
  }

  readNow(position: number, target: Uint8Array): boolean {
    if (this.drive.readNow === undefined) return false
    this.#buffers[0] = target
    this.#parts[2] = target.length
    this.#one.length = target.length
    return this.drive.readNow(position, this.#one)
  }
}
