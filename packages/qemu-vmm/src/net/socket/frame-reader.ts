import { type FrameBatch, RECORD_FRAME_OFFSET, isFrameLength } from 'virtio'

const LENGTH_BYTES = 4
/** The longest frame that QEMU sends over a connection. */
const LONGEST = 4096 + 65_536

/** Finds frames in a stream, each with its length in four bytes before it, most significant first. */
export class FrameReader {
  #length = 0
  #lengthBytes = 0
  /** The frame that is not complete. */
  readonly #frame: Uint8Array = new Uint8Array(LONGEST)
  #frameBytes = 0

  /**
   * Appends frames of `data` from `from` on to a batch; what no frame can be is left out. Returns where it stopped, as
   * there is no room for the next. -1 when the stream cannot be one of frames.
   */
  read(data: Uint8Array, from: number, batch: FrameBatch): number {
    let at = from
    while (at < data.length) {
      if (this.#lengthBytes < LENGTH_BYTES) {
        this.#length = this.#length * 256 + data[at++]!
        this.#lengthBytes++
        if (this.#length > LONGEST) return -1
        continue
      }
      const here = Math.min(this.#length - this.#frameBytes, data.length - at)
      const isWhole = this.#frameBytes + here === this.#length
      if (isWhole && isFrameLength(this.#length) && !batch.hasRoom(this.#length)) return at
      this.#frame.set(data.subarray(at, at + here), this.#frameBytes)
      this.#frameBytes += here
      at += here
      if (isWhole) this.#finish(batch)
    }
    return at
  }

  #finish(batch: FrameBatch): void {
    if (isFrameLength(this.#length)) batch.push(this.#frame.subarray(0, this.#length))
    this.#length = 0
    this.#lengthBytes = 0
    this.#frameBytes = 0
  }
}

/** The frames of a batch from `from` on, as they go over a stream. */
export function streamOf(batch: FrameBatch, from: number): Uint8Array {
  let bytes = 0
  for (let at = from; at < batch.used; at = batch.next(at)) {
    bytes += LENGTH_BYTES + batch.frameBytes(at)
  }
  const data = new Uint8Array(bytes)
  const view = new DataView(data.buffer)
  let to = 0
  for (let at = from; at < batch.used; at = batch.next(at)) {
    const length = batch.frameBytes(at)
    const frame = at + RECORD_FRAME_OFFSET
    view.setUint32(to, length)
    data.set(batch.bytes.subarray(frame, frame + length), to + LENGTH_BYTES)
    to += LENGTH_BYTES + length
  }
  return data
}
