import type { BytePlace, FormatNode, MapEntry } from '../../block/index.ts'

/** What is at a place of the source, and how far. */
export interface Extent {
  readonly length: number
  readonly zero: boolean
  /** The image itself has it; otherwise its backing file. */
  readonly own: boolean
}

/** Images one behind the other. */
export class Source {
  readonly sizeBytes: number
  readonly #parts: readonly { readonly node: FormatNode; readonly start: number }[]

  constructor(nodes: readonly FormatNode[]) {
    let sizeBytes = 0
    this.#parts = nodes.map((node) => {
      const start = sizeBytes
      sizeBytes += node.sizeBytes
      return { node, start }
    })
    this.sizeBytes = sizeBytes
  }

  async extent(at: number): Promise<Extent> {
    const { node, start } = this.#parts.findLast((part) => part.start <= at)!
    const entry: MapEntry = await node.map(at - start, node.sizeBytes - (at - start))
    return { length: entry.length, zero: entry.zero, own: entry.depth === 0 }
  }

  /** Fills a buffer at once, where the host has all of it in memory and it is in one place of one image. */
  readNow(offset: number, bytes: Uint8Array): boolean {
    const { node, start } = this.#parts.findLast((part) => part.start <= offset)!
    const length = bytes.byteLength
    if (offset + length > start + node.sizeBytes) return false
    const parts = Uint32Array.of(0, 0, length)
    return node.readNow?.(offset - start, { buffers: [bytes], parts, count: 1, length }) === true
  }

  /** Where the bytes are, if they are in one place. */
  place(offset: number, length: number): BytePlace | undefined {
    const { node, start } = this.#parts.findLast((part) => part.start <= offset)!
    if (offset + length > start + node.sizeBytes) return undefined
    return node.place?.(offset - start, length)
  }

  /** Fills a buffer; behind the end there are zeros. */
  async read(offset: number, bytes: Uint8Array): Promise<void> {
    let done = 0
    for (const { node, start } of this.#parts) {
      const from = offset + done - start
      if (from < 0 || from >= node.sizeBytes || done === bytes.byteLength) continue
      const length = Math.min(bytes.byteLength - done, node.sizeBytes - from)
      await node.readv(from, [bytes.subarray(done, done + length)])
      done += length
    }
    bytes.fill(0, done)
  }
}
