import { BlockError } from '../errors.ts'
import { hex } from './bytes.ts'

/** What a host cluster is used for, other than data. */
export const CLAIM_HEADER = 1
export const CLAIM_L1 = 2
export const CLAIM_REFCOUNT_TABLE = 3
export const CLAIM_REFCOUNT_BLOCK = 4
export const CLAIM_SNAPSHOT_TABLE = 5
/** Plus the index in the active L1 table. */
export const CLAIM_L2 = 8

const NAMES = ['', 'qcow2_header', 'active L1 table', 'refcount table', 'refcount block']
NAMES.push('snapshot table')

/** The clusters that hold metadata, so that nothing else is written there. */
export class Claims {
  readonly clusterBytes: number
  readonly #uses = new Map<number, number>()

  constructor(clusterBytes: number) {
    this.clusterBytes = clusterBytes
  }

  /** Claims the clusters of a range, unless something else has them: the first one keeps them. */
  add(offset: number, length: number, use: number): void {
    const first = Math.floor(offset / this.clusterBytes)
    const end = Math.ceil((offset + length) / this.clusterBytes)
    for (let cluster = first; cluster < end; cluster++) {
      if (!this.#uses.has(cluster)) this.#uses.set(cluster, use)
    }
  }

  remove(offset: number, length: number): void {
    const first = Math.floor(offset / this.clusterBytes)
    const end = Math.ceil((offset + length) / this.clusterBytes)
    for (let cluster = first; cluster < end; cluster++) this.#uses.delete(cluster)
  }

  /** Whether the cluster at an offset is what `use` says. */
  is(offset: number, use: number): boolean {
    return this.#uses.get(Math.floor(offset / this.clusterBytes)) === use
  }

  /** The name of the metadata that a range touches, if any. */
  overlap(offset: number, length: number): string | undefined {
    const end = offset + length
    for (let at = offset - (offset % this.clusterBytes); at < end; at += this.clusterBytes) {
      const use = this.#uses.get(at / this.clusterBytes)
      if (use !== undefined) return use >= CLAIM_L2 ? 'active L2 table' : NAMES[use]
    }
    return undefined
  }

  /** @throws BlockError E_BLOCK_CORRUPT when the range touches metadata */
  mustBeFree(offset: number, length: number): void {
    const name = this.overlap(offset, length)
    if (name === undefined) return
    throw corrupt(`Preventing invalid write on metadata (overlaps with ${name}) at ${hex(offset)}`)
  }
}

/** An impossible entry in an image's tables. */
export function corrupt(message: string): BlockError {
  return new BlockError('E_BLOCK_CORRUPT', `qcow2: ${message}`, { errno: 'EIO' })
}
