import { VirtioError } from '../../errors.ts'
import { type FrameBatch, RECORD_FRAME_OFFSET, RECORD_LENGTH_BYTES } from '../../net/frame-batch.ts'
import {
  HDR_FLAGS,
  HDR_NUM_BUFFERS,
  VIRTIO_NET_HDR_F_DATA_VALID,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
} from '../../net/header.ts'
import type { DescriptorChain } from '../../queue/chain.ts'
import type { Virtqueue } from '../../queue/virtqueue.ts'

/** What became of a frame. */
export type Delivery = 'taken' | 'dropped' | 'no room'

/** Puts frames into the buffers of receive queues (VirtIO 1.2, section 5.1.6.4). */
export class NetReceiver {
  /** Bytes of the driver's header. */
  headerBytes = 12
  /** A frame may go to several buffers. */
  mergeable = false
  /** The driver takes checksums that are not there, or were checked. */
  checksums = false
  readonly #chains: DescriptorChain[] = []

  /** The frame at `at`, of which nothing is left in the queue when there are no buffers for all of it. */
  deliver(queue: Virtqueue, batch: FrameBatch, at: number): Delivery {
    const needed = this.headerBytes + batch.frameBytes(at)
    const result = this.#collect(queue, needed)
    if (result !== 'taken') return result
    const { view, bytes } = batch
    const header = at + RECORD_LENGTH_BYTES
    const flags = bytes[header + HDR_FLAGS]!
    // The header lies before the frame as the driver wants it, but for what only this device knows.
    bytes[header + HDR_FLAGS] = this.checksums
      ? flags & (VIRTIO_NET_HDR_F_NEEDS_CSUM | VIRTIO_NET_HDR_F_DATA_VALID)
      : 0
    const count = this.#chains.length
    if (this.headerBytes === 12) view.setUint16(header + HDR_NUM_BUFFERS, count, true)
    try {
      this.#write(queue, batch, at, needed)
    } finally {
      bytes[header + HDR_FLAGS] = flags
      view.setUint16(header + HDR_NUM_BUFFERS, 0, true)
      this.#chains.length = 0
    }
    return 'taken'
  }

  /** Pops buffers for so many bytes; none when there are not enough, or one of them is a bad one. */
  #collect(queue: Virtqueue, needed: number): Delivery {
    let result: Delivery = 'dropped'
    try {
      result = this.#pop(queue, needed)
    } finally {
      if (result !== 'taken') this.#giveBack(queue)
    }
    return result
  }

  #pop(queue: Virtqueue, needed: number): Delivery {
    const chains = this.#chains
    let room = 0
    while (room < needed) {
      const chain = queue.popChain()
      // More than all there are would be needed: they will never be enough.
      if (chain === undefined) return chains.length === queue.size ? 'dropped' : 'no room'
      chains.push(chain)
      room += chain.writableBytes
      if (chain.writableBytes === 0) {
        throw new VirtioError('E_REQUEST', 'a receive buffer of virtio-net has no writable bytes')
      }
      if (!this.mergeable && room < needed) return 'dropped'
    }
    return 'taken'
  }

  #giveBack(queue: Virtqueue): void {
    const chains = this.#chains
    for (let chain = chains.pop(); chain !== undefined; chain = chains.pop()) queue.unpop(chain)
  }

  #write(queue: Virtqueue, batch: FrameBatch, at: number, needed: number): void {
    const chains = this.#chains
    const { headerBytes } = this
    // A short header is followed by the frame all the same.
    const contiguous = headerBytes === RECORD_FRAME_OFFSET - RECORD_LENGTH_BYTES
    let from = at + RECORD_LENGTH_BYTES
    let left = needed
    for (let i = 0; i < chains.length; i++) {
      const chain = chains[i]!
      const here = Math.min(chain.writableBytes, left)
      try {
        if (contiguous) chain.write(0, batch.bytes, from, here)
        else {
          chain.write(0, batch.bytes, from, headerBytes)
          chain.write(headerBytes, batch.bytes, at + RECORD_FRAME_OFFSET, here - headerBytes)
        }
      } catch (error) {
        for (let rest = chains.length - 1; rest >= i; rest--) queue.unpop(chains[rest]!)
        throw error
      }
      queue.pushUsed(chain, here)
      from += here
      left -= here
    }
  }
}
