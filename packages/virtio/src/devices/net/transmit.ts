import { VirtioError } from '../../errors.ts'
import {
  FrameBatch,
  MAX_FRAME_BYTES,
  RECORD_FRAME_OFFSET,
  RECORD_LENGTH_BYTES,
  isFrameLength,
} from '../../net/frame-batch.ts'
import {
  HDR_CSUM_OFFSET,
  HDR_CSUM_START,
  HDR_FLAGS,
  HDR_GSO_SIZE,
  HDR_GSO_TYPE,
  HDR_NUM_BUFFERS,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  neededBy,
} from '../../net/header.ts'
import type { LinkSide } from '../../net/link.ts'
import type { DescriptorChain } from '../../queue/chain.ts'

/** Frames of the driver on their way to the other end, in one batch. */
export class NetTransmitter {
  /** Bytes of the driver's header. */
  headerBytes = 12
  /** `ACCEPTS_…` bits of what the driver may ask for. */
  offloads = 0
  readonly batch: FrameBatch = new FrameBatch()
  /** Frames that made no sense. */
  errors = 0
  readonly #side: LinkSide
  /** The first record that the other end did not take. */
  #from = 0

  constructor(side: LinkSide) {
    this.#side = side
  }

  /** The other end has to take what there is first. */
  get isBlocked(): boolean {
    return this.#from < this.batch.used
  }

  /** There may be no room for another frame. */
  get isFull(): boolean {
    return !this.batch.hasRoom(MAX_FRAME_BYTES)
  }

  /**
   * Copies the frame of a chain into the batch; the offset of its record, or -1 for one that is dropped. Throws
   * `E_REQUEST` when not even the header is there.
   */
  add(chain: DescriptorChain): number {
    const { batch, headerBytes } = this
    const frameBytes = chain.readableBytes - headerBytes
    if (frameBytes < 0) {
      throw new VirtioError(
        'E_REQUEST',
        `a frame of virtio-net has ${chain.readableBytes} bytes; its header alone has ${headerBytes}`,
      )
    }
    const at = isFrameLength(frameBytes) ? batch.append(frameBytes) : -1
    if (at < 0) {
      this.errors++
      return -1
    }
    const header = at + RECORD_LENGTH_BYTES
    try {
      if (headerBytes === RECORD_FRAME_OFFSET - RECORD_LENGTH_BYTES) {
        chain.read(0, batch.bytes, header, headerBytes + frameBytes)
      } else {
        chain.read(0, batch.bytes, header, headerBytes)
        chain.read(headerBytes, batch.bytes, at + RECORD_FRAME_OFFSET, frameBytes)
      }
    } catch (error) {
      batch.retract(at)
      throw error
    }
    if (this.#checkHeader(header, frameBytes)) return at
    batch.retract(at)
    this.errors++
    return -1
  }

  /** Offers what there is to the other end; false when it does not take everything now. */
  flush(): boolean {
    const { batch } = this
    this.#from = this.#side.send(batch, this.#from)
    if (this.isBlocked) return false
    this.clear()
    return true
  }

  clear(): void {
    this.#from = 0
    this.batch.clear()
  }

  /** The records that were not taken. */
  save(): Uint8Array {
    return this.batch.bytes.slice(this.#from, this.batch.used)
  }

  /** Throws `E_REQUEST` for what are no records. */
  load(records: Uint8Array): void {
    this.clear()
    this.batch.bytes.set(records)
    this.batch.adopt(records.length)
  }

  /** Leaves only what was negotiated and lies within the frame; false when the frame cannot be sent. */
  #checkHeader(header: number, frameBytes: number): boolean {
    const { bytes, view } = this.batch
    view.setUint16(header + HDR_NUM_BUFFERS, 0, true)
    const flags = bytes[header + HDR_FLAGS]! & VIRTIO_NET_HDR_F_NEEDS_CSUM
    bytes[header + HDR_FLAGS] = flags
    const gsoType = bytes[header + HDR_GSO_TYPE]!
    if (flags === 0 && gsoType === 0) return true
    const needed = neededBy(flags, gsoType)
    if (needed === undefined || (needed & ~this.offloads) !== 0) return false
    // Segments all need a checksum of their own (section 5.1.6.2.1).
    if (flags === 0) return false
    if (gsoType !== 0 && view.getUint16(header + HDR_GSO_SIZE, true) === 0) return false
    const start = view.getUint16(header + HDR_CSUM_START, true)
    return start + view.getUint16(header + HDR_CSUM_OFFSET, true) + 2 <= frameBytes
  }
}
