import { VirtioError } from '../errors.ts'
import { VIRTIO_NET_HDR_BYTES } from './header.ts'

/** Bytes of the length before a record. */
export const RECORD_LENGTH_BYTES = 4
/** From the start of a record to its frame. */
export const RECORD_FRAME_OFFSET: number = RECORD_LENGTH_BYTES + VIRTIO_NET_HDR_BYTES
/** An Ethernet header without tag; shorter frames do not exist. */
export const MIN_FRAME_BYTES = 14
/** A packet of 64 KiB less one, its Ethernet header and a tag, rounded up. */
export const MAX_FRAME_BYTES = 65_550
export const DEFAULT_BATCH_BYTES: number = 512 << 10

/**
 * Frames on their way from one end of a link to the other, many for each call.
 *
 * Records follow one another from the start of `bytes`, each at a multiple of 4: the length L of what follows as a
 * 32-bit word, a `virtio_net_hdr_v1` of 12 bytes (VirtIO 1.2, section 5.1.6; `num_buffers` is 0), the Ethernet frame
 * without its check sequence, and padding. L counts header and frame. Everything is little-endian.
 *
 * Who sends fills a batch of its own and uses it again afterwards; who receives copies what it wants to keep.
 */
export class FrameBatch {
  readonly bytes: Uint8Array<ArrayBuffer>
  readonly view: DataView<ArrayBuffer>
  /** Bytes of all records. */
  used = 0
  /** Number of records. */
  count = 0

  /** `capacity` is the bytes of all records; room for one frame of any length at least. */
  constructor(capacity: number = DEFAULT_BATCH_BYTES) {
    const least = recordBytes(MAX_FRAME_BYTES)
    if (!Number.isInteger(capacity) || capacity < least || capacity % 4 !== 0) {
      throw new VirtioError(
        'E_CONFIG',
        `a batch of frames cannot have ${capacity} bytes: use a multiple of 4, at least ${least}`,
        { fields: { capacity, least } },
      )
    }
    this.bytes = new Uint8Array(capacity)
    this.view = new DataView(this.bytes.buffer)
  }

  clear(): void {
    this.used = 0
    this.count = 0
  }

  /** Whether a frame of this length would fit. */
  hasRoom(frameBytes: number): boolean {
    return this.used + recordBytes(frameBytes) <= this.bytes.length
  }

  /**
   * Appends a record for a frame of `frameBytes`, with a header of zeroes; what the frame has is for the caller to
   * write, at {@link RECORD_FRAME_OFFSET} after the returned offset. -1 when there is no room, or for a length that no
   * frame has.
   */
  append(frameBytes: number): number {
    const at = this.used
    if (!isFrameLength(frameBytes) || !this.hasRoom(frameBytes)) return -1
    this.view.setUint32(at, VIRTIO_NET_HDR_BYTES + frameBytes, true)
    this.bytes.fill(0, at + RECORD_LENGTH_BYTES, at + RECORD_FRAME_OFFSET)
    this.used = at + recordBytes(frameBytes)
    this.count++
    return at
  }

  /** Appends a copy of a frame, with `header` or one of zeroes; the same results as {@link append}. */
  push(frame: Uint8Array, header?: Uint8Array): number {
    const at = this.append(frame.length)
    if (at < 0) return -1
    if (header !== undefined) {
      this.bytes.set(header.subarray(0, VIRTIO_NET_HDR_BYTES), at + RECORD_LENGTH_BYTES)
    }
    this.bytes.set(frame, at + RECORD_FRAME_OFFSET)
    return at
  }

  /** Appends a copy of the record at `at` of another batch; false when there is no room. */
  copyRecord(from: FrameBatch, at: number): boolean {
    const bytes = from.next(at) - at
    if (this.used + bytes > this.bytes.length) return false
    this.bytes.set(from.bytes.subarray(at, at + bytes), this.used)
    this.used += bytes
    this.count++
    return true
  }

  /** Takes the last record, which is at `at`, away again. */
  retract(at: number): void {
    this.used = at
    this.count--
  }

  /** Bytes of the frame of the record at `at`. */
  frameBytes(at: number): number {
    return this.view.getUint32(at, true) - VIRTIO_NET_HDR_BYTES
  }

  /** The offset after the record at `at`. */
  next(at: number): number {
    return at + recordBytes(this.view.getUint32(at, true) - VIRTIO_NET_HDR_BYTES)
  }

  /** A view of the frame of the record at `at`. For tests, and where one more object does not matter. */
  frame(at: number): Uint8Array<ArrayBuffer> {
    const start = at + RECORD_FRAME_OFFSET
    return this.bytes.subarray(start, start + this.frameBytes(at))
  }

  /** A view of the header of the record at `at`. */
  header(at: number): Uint8Array<ArrayBuffer> {
    return this.bytes.subarray(at + RECORD_LENGTH_BYTES, at + RECORD_FRAME_OFFSET)
  }

  /** The offsets of all records, for tests and slow paths. */
  *records(from: number = 0): Generator<number> {
    for (let at = from; at < this.used; at = this.next(at)) yield at
  }

  /**
   * Counts the records of `used` bytes that somebody else wrote, such as native code, and takes them as the contents.
   * Throws `E_REQUEST` when they are no whole records of frames.
   */
  adopt(used: number): void {
    let count = 0
    let at = 0
    while (at < used) {
      if (at + RECORD_FRAME_OFFSET > this.bytes.length) break
      if (!isFrameLength(this.frameBytes(at))) break
      at = this.next(at)
      count++
    }
    if (at !== used || used > this.bytes.length) {
      throw new VirtioError('E_REQUEST', `${used} bytes are no whole frames: one begins at ${at}`, {
        fields: { used, at },
      })
    }
    this.used = used
    this.count = count
  }
}

/** Bytes of a record, with its padding. */
export function recordBytes(frameBytes: number): number {
  return (RECORD_FRAME_OFFSET + frameBytes + 3) & ~3
}

export function isFrameLength(bytes: number): boolean {
  return bytes >= MIN_FRAME_BYTES && bytes <= MAX_FRAME_BYTES
}
