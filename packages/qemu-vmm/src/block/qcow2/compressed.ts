import { inflateRaw } from 'node:zlib'
import type { BlockFile } from '../file/protocol.ts'
import { hex } from './bytes.ts'
import { corrupt } from './claims.ts'
import type { Mapping } from './tables.ts'

const KEPT = 4

/** Unpacks compressed clusters and keeps the last few, because guests read them in pieces. */
export class CompressedClusters {
  readonly #file: BlockFile
  readonly #clusterBytes: number
  readonly #kept = new Map<number, Uint8Array>()

  constructor(file: BlockFile, clusterBytes: number) {
    this.#file = file
    this.#clusterBytes = clusterBytes
  }

  /** The whole cluster; it must not be changed. */
  async read(mapping: Mapping): Promise<Uint8Array> {
    const found = this.#kept.get(mapping.host)
    if (found !== undefined) return found
    const packed = new Uint8Array(mapping.compressedBytes)
    await this.#file.readv(mapping.host, [packed])
    const bytes = await inflate(packed, this.#clusterBytes).catch((cause: unknown) => {
      throw corrupt(
        `Compressed cluster at ${hex(mapping.host)} cannot be unpacked: ${String(cause)}`,
      )
    })
    if (this.#kept.size >= KEPT) this.#kept.delete(this.#kept.keys().next().value!)
    this.#kept.set(mapping.host, bytes)
    return bytes
  }

  /** Their places in the file were freed and may be written again. */
  forget(): void {
    this.#kept.clear()
  }
}

function inflate(packed: Uint8Array, length: number): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    inflateRaw(packed, { maxOutputLength: length }, (error, bytes) => {
      if (error !== null) reject(error)
      else if (bytes.byteLength !== length) reject(new Error(`${bytes.byteLength} bytes`))
      else resolve(bytes)
    })
  })
}
