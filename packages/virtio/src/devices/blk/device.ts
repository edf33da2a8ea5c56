import { VIRTIO_ID_BLOCK, featureBit } from '../../constants.ts'
import { VirtioDevice, type VirtioDeviceOptions } from '../../device.ts'
import { VirtioError } from '../../errors.ts'
import type { DeviceContext, DeviceModel } from '../../model.ts'
import type { DescriptorChain } from '../../queue/chain.ts'
import { PartList } from '../../queue/part-list.ts'
import type { Virtqueue } from '../../queue/virtqueue.ts'
import { flag, parseState } from '../../state.ts'
import type { BlkBackend } from './backend.ts'
import { CONFIG_BYTES, CONFIG_WRITEBACK, blkConfig } from './config.ts'
import {
  HEADER_BYTES,
  SECTOR_BYTES,
  VIRTIO_BLK_F_BLK_SIZE,
  VIRTIO_BLK_F_CONFIG_WCE,
  VIRTIO_BLK_F_DISCARD,
  VIRTIO_BLK_F_FLUSH,
  VIRTIO_BLK_F_MQ,
  VIRTIO_BLK_F_RO,
  VIRTIO_BLK_F_SEG_MAX,
  VIRTIO_BLK_F_TOPOLOGY,
  VIRTIO_BLK_F_WRITE_ZEROES,
  VIRTIO_BLK_ID_BYTES,
  VIRTIO_BLK_S_IOERR,
  VIRTIO_BLK_S_OK,
  VIRTIO_BLK_S_UNSUPP,
  VIRTIO_BLK_T_DISCARD,
  VIRTIO_BLK_T_FLUSH,
  VIRTIO_BLK_T_GET_ID,
  VIRTIO_BLK_T_IN,
  VIRTIO_BLK_T_OUT,
  VIRTIO_BLK_T_WRITE_ZEROES,
} from './protocol.ts'
import { type Segment, parseSegments } from './segments.ts'

/** The longest request that is carried out at once: no other device is served meanwhile. */
const NOW_BYTES = 2 << 20
/**
 * After so many bytes that were moved at once other devices are served before the rest of the queue. Handing that to threads
 * instead would have them wait for each other, and for processors that the guest uses.
 */
const TURN_BYTES = 2 << 20

/**
 * After so many bytes that were moved at once the driver is told, also when there are more requests: it makes
 * something of the first ones while the next are carried out.
 */
const SIGNAL_BYTES = 256 << 10

export interface BlkOptions extends VirtioDeviceOptions {
  backend: BlkBackend
  /** What GET_ID answers; at most 20 bytes of ASCII. */
  serial?: string
  /** Request queues, 1 to 64; default 1. */
  queues?: number
  /** Descriptors of each queue, a power of two of 4 to 1024; default 256. */
  queueSize?: number
}

export interface BlkState {
  writeback: boolean
}

/** A virtio block device. */
export function createBlk(options: BlkOptions): VirtioDevice<BlkModel> {
  return new VirtioDevice(new BlkModel(options), options)
}

/** `virtio-blk` (VirtIO 1.2, section 5.2): requests go to the backend and come back in any order. */
export class BlkModel implements DeviceModel<BlkState> {
  readonly name: string = 'virtio-blk'
  readonly type: number = VIRTIO_ID_BLOCK
  readonly features: bigint
  readonly queueSizes: readonly number[]
  readonly configBytes: number = CONFIG_BYTES
  readonly #backend: BlkBackend
  readonly #id: Uint8Array = new Uint8Array(VIRTIO_BLK_ID_BYTES)
  readonly #segments: number
  readonly #header: Uint8Array = new Uint8Array(HEADER_BYTES)
  readonly #headerView: DataView = new DataView(this.#header.buffer)
  #config: Uint8Array
  #context!: DeviceContext
  readonly #parts: PartList
  /** Bytes that may still be moved at once in this turn. */
  #left = 0
  readonly #goesOn = (): boolean => this.#left > 0
  /** The queue that is being drained: the driver is told of its completions at the end of that. */
  #draining: Virtqueue | undefined
  /** Bytes that were moved at once since the driver was told of it. */
  #untold = 0
  #writeback = true
  /** Queues with completed requests of which the driver has not been told yet. */
  readonly #toSignal: Set<Virtqueue> = new Set()

  constructor(options: BlkOptions) {
    const { backend, serial = '', queues = 1, queueSize = 256 } = options
    checkOptions(backend, serial, queues, queueSize)
    this.#backend = backend
    this.#parts = new PartList(options.memory)
    this.#id.set(new TextEncoder().encode(serial))
    this.queueSizes = Array.from({ length: queues }, () => queueSize)
    this.#segments = queueSize - 2
    this.#config = blkConfig(backend, { segments: this.#segments, queues })
    let features = 0n
    const add = (...numbers: number[]): void => {
      for (const number of numbers) features |= featureBit(number)
    }
    add(VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_FLUSH)
    add(VIRTIO_BLK_F_CONFIG_WCE)
    if (queues > 1) add(VIRTIO_BLK_F_MQ)
    if (backend.readOnly) add(VIRTIO_BLK_F_RO)
    else add(VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_WRITE_ZEROES)
    this.features = features
  }

  attach(context: DeviceContext): void {
    this.#context = context
  }

  /** Tells the driver that the size of the backend has changed. */
  resized(): void {
    const queues = this.queueSizes.length
    this.#config = blkConfig(this.#backend, { segments: this.#segments, queues })
    this.#context.configChanged()
  }

  configRead(offset: number): number {
    return offset === CONFIG_WRITEBACK ? Number(this.#writeback) : this.#config[offset]!
  }

  configWrite(offset: number, size: number, value: number): void {
    if (offset !== CONFIG_WRITEBACK || size !== 1) return
    if (this.#context.hasFeature(VIRTIO_BLK_F_CONFIG_WCE)) this.#writeback = (value & 1) !== 0
  }

  activate(): void {}

  notify(queue: Virtqueue): void {
    this.#left = TURN_BYTES
    this.#draining = queue
    this.#untold = 0
    this.#backend.plug?.()
    try {
      this.#context.drain(queue, (chain) => this.#request(queue, chain), this.#goesOn)
    } finally {
      this.#draining = undefined
      this.#backend.unplug?.()
    }
  }

  reset(): void {
    this.#writeback = true
    this.#toSignal.clear()
  }

  save(): BlkState {
    return { writeback: this.#writeback }
  }

  load(state: BlkState): void {
    this.#writeback = parseState<BlkState>(this.name, state, { writeback: flag }).writeback
  }

  /** Starts one request; what cannot even be answered throws and stops the device. */
  #request(queue: Virtqueue, chain: DescriptorChain): void {
    if (chain.readableBytes < HEADER_BYTES || chain.writableBytes < 1) {
      throw new VirtioError(
        'E_REQUEST',
        `a request of ${this.name} has ${chain.readableBytes} readable and ` +
          `${chain.writableBytes} writable bytes; the least are ${HEADER_BYTES} and 1`,
      )
    }
    chain.read(0, this.#header)
    const type = this.#headerView.getUint32(0, true)
    const sector =
      this.#headerView.getUint32(12, true) * 2 ** 32 + this.#headerView.getUint32(8, true)
    switch (type) {
      case VIRTIO_BLK_T_IN:
        return this.#read(queue, chain, sector)
      case VIRTIO_BLK_T_OUT:
        return this.#write(queue, chain, sector)
      case VIRTIO_BLK_T_FLUSH:
        return this.#run(queue, chain, () => this.#backend.flush())
      case VIRTIO_BLK_T_GET_ID:
        chain.write(0, this.#id.subarray(0, Math.min(this.#id.length, chain.writableBytes - 1)))
        return this.#finish(queue, chain, VIRTIO_BLK_S_OK)
      case VIRTIO_BLK_T_DISCARD:
      case VIRTIO_BLK_T_WRITE_ZEROES:
        return this.#zeroOrDiscard(queue, chain, type)
      default:
        return this.#finish(queue, chain, VIRTIO_BLK_S_UNSUPP)
    }
  }

  #read(queue: Virtqueue, chain: DescriptorChain, sector: number): void {
    const length = chain.writableBytes - 1
    if (!this.#inRange(sector, length)) {
      this.#backend.refused?.('read')
      return this.#finish(queue, chain, VIRTIO_BLK_S_IOERR)
    }
    if (length === 0) return this.#finish(queue, chain, VIRTIO_BLK_S_OK)
    if (this.#answerNow(chain, sector * SECTOR_BYTES, length)) {
      return this.#moved(queue, chain, length)
    }
    const iov = chain.writableViews(0, length)
    this.#run(queue, chain, () => this.#backend.readv(sector * SECTOR_BYTES, iov), length)
  }

  /** Reads what takes no time to read: threads and promises would take longer. */
  #answerNow(chain: DescriptorChain, offset: number, length: number): boolean {
    const parts = this.#parts
    if (length > NOW_BYTES || this.#backend.readNow === undefined || !parts.possible) {
      return false
    }
    parts.clear()
    chain.writableParts(length, parts)
    if (!this.#backend.readNow(offset, parts)) return false
    chain.markWritten(0, length)
    return true
  }

  #write(queue: Virtqueue, chain: DescriptorChain, sector: number): void {
    const length = chain.readableBytes - HEADER_BYTES
    if (this.#backend.readOnly || !this.#inRange(sector, length)) {
      this.#backend.refused?.('write')
      return this.#finish(queue, chain, VIRTIO_BLK_S_IOERR)
    }
    if (length === 0) return this.#finish(queue, chain, VIRTIO_BLK_S_OK)
    if (this.#isCached() && this.#acceptNow(chain, sector * SECTOR_BYTES, length)) {
      return this.#moved(queue, chain, length)
    }
    const iov = chain.readableViews(HEADER_BYTES, length)
    const write = (): Promise<void> => this.#backend.writev(sector * SECTOR_BYTES, iov)
    this.#run(queue, chain, this.#stably(write))
  }

  /** Writes what takes no time to write. */
  #acceptNow(chain: DescriptorChain, offset: number, length: number): boolean {
    const parts = this.#parts
    if (length > NOW_BYTES || this.#backend.writeNow === undefined || !parts.possible) {
      return false
    }
    parts.clear()
    chain.readableParts(HEADER_BYTES, length, parts)
    return this.#backend.writeNow(offset, parts)
  }

  /** Answers what was carried out at once. */
  #moved(queue: Virtqueue, chain: DescriptorChain, length: number): void {
    this.#finish(queue, chain, VIRTIO_BLK_S_OK)
    this.#left -= length
    this.#untold += length
    if (this.#untold < SIGNAL_BYTES) return
    this.#untold = 0
    this.#context.signal(queue)
  }

  #zeroOrDiscard(queue: Virtqueue, chain: DescriptorChain, type: number): void {
    const discard = type === VIRTIO_BLK_T_DISCARD
    const feature = discard ? VIRTIO_BLK_F_DISCARD : VIRTIO_BLK_F_WRITE_ZEROES
    const segments = this.#context.hasFeature(feature)
      ? parseSegments(chain, discard, (sector, length) => this.#inRange(sector, length))
      : VIRTIO_BLK_S_UNSUPP
    if (typeof segments === 'number') {
      this.#backend.refused?.(discard ? 'unmap' : 'write')
      return this.#finish(queue, chain, segments)
    }
    const one = ({ offset, length, unmap }: Segment): Promise<void> =>
      discard
        ? this.#backend.discard(offset, length)
        : this.#backend.writeZeroes(offset, length, unmap)
    const all = async (): Promise<void> => {
      for (const segment of segments) if (segment.length > 0) await one(segment)
    }
    this.#run(queue, chain, discard ? all : this.#stably(all))
  }

  /** There is a volatile cache: a write need not be stable when it is answered (section 5.2.6.2). */
  #isCached(): boolean {
    const context = this.#context
    return context.hasFeature(VIRTIO_BLK_F_CONFIG_WCE)
      ? this.#writeback
      : context.hasFeature(VIRTIO_BLK_F_FLUSH)
  }

  /** Without one it must be. */
  #stably(write: () => Promise<void>): () => Promise<void> {
    if (this.#isCached()) return write
    return async () => {
      await write()
      await this.#backend.flush()
    }
  }

  /** True for whole blocks of the disk. `sector` may be any number up to 2^64. */
  #inRange(sector: number, length: number): boolean {
    const { sizeBytes, logicalBlockBytes } = this.#backend
    const offset = sector * SECTOR_BYTES
    return (
      offset + length <= sizeBytes &&
      offset % logicalBlockBytes === 0 &&
      length % logicalBlockBytes === 0
    )
  }

  /** Answers when `work` has ended; `filled` bytes of the chain were then written by the backend. */
  #run(
    queue: Virtqueue,
    chain: DescriptorChain,
    work: () => Promise<void>,
    filled: number = 0,
  ): void {
    const end = (status: number): void => {
      // Also after a failure, or a reset, because something may have been written.
      this.#context.guard(() => chain.markWritten(0, filled))
      this.#finish(queue, chain, status)
    }
    let promise: Promise<void>
    try {
      promise = work()
    } catch {
      return end(VIRTIO_BLK_S_IOERR)
    }
    void promise.then(
      () => end(VIRTIO_BLK_S_OK),
      () => end(VIRTIO_BLK_S_IOERR),
    )
  }

  #finish(queue: Virtqueue, chain: DescriptorChain, status: number): void {
    const context = this.#context
    context.guard(() => chain.writeByte(chain.writableBytes - 1, status))
    context.guard(() => queue.pushUsed(chain, chain.writableBytes))
    if (queue === this.#draining) return
    // Completions of one turn of the event loop share an interrupt. Each comes in a callback of its
    // own, so that microtasks would run between them.
    if (this.#toSignal.size === 0) context.later(this.#signalAll)
    this.#toSignal.add(queue)
  }

  readonly #signalAll = (): void => {
    for (const queue of this.#toSignal) this.#context.guard(() => this.#context.signal(queue))
    this.#toSignal.clear()
  }
}

function checkOptions(
  backend: BlkBackend,
  serial: string,
  queues: number,
  queueSize: number,
): void {
  const refuse = (what: string): never => {
    throw new VirtioError('E_CONFIG', `virtio-blk cannot have ${what}`)
  }
  const { sizeBytes, logicalBlockBytes: block, physicalBlockBytes: physical } = backend
  const isPower = (value: number): boolean => value > 0 && (value & (value - 1)) === 0
  if (!isPower(block) || block < SECTOR_BYTES || block > 65_536) {
    refuse(`logical blocks of ${block} bytes: use a power of two of 512 to 65536`)
  }
  if (!isPower(physical) || physical < block) {
    refuse(`physical blocks of ${physical} bytes: use a power of two of at least ${block}`)
  }
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0 || sizeBytes % block !== 0) {
    refuse(`${sizeBytes} bytes: use a multiple of ${block}`)
  }
  if (!/^[\x20-\x7e]{0,20}$/.test(serial)) {
    refuse(`the serial number '${serial}': use at most 20 ASCII characters`)
  }
  if (!Number.isInteger(queues) || queues < 1 || queues > 64)
    refuse(`${queues} queues: use 1 to 64`)
  if (!isPower(queueSize) || queueSize < 4 || queueSize > 1024) {
    refuse(`queues of ${queueSize}: use a power of two of 4 to 1024`)
  }
}
