import { VIRTIO_ID_BALLOON, featureBit } from '../../constants.ts'
import { VirtioDevice, type VirtioDeviceOptions } from '../../device.ts'
import type { DeviceContext, DeviceModel } from '../../model.ts'
import type { DescriptorChain } from '../../queue/chain.ts'
import type { Virtqueue } from '../../queue/virtqueue.ts'
import { flag, int, parseState } from '../../state.ts'
import { PageList } from './page-list.ts'
import {
  BALLOON_STATS,
  type BalloonStats,
  CONFIG_ACTUAL,
  CONFIG_BYTES,
  CONFIG_NUM_PAGES,
  CONFIG_POISON_VAL,
  STAT_BYTES,
  VIRTIO_BALLOON_F_DEFLATE_ON_OOM,
  VIRTIO_BALLOON_F_PAGE_POISON,
  VIRTIO_BALLOON_F_PAGE_REPORTING,
  VIRTIO_BALLOON_F_STATS_VQ,
} from './protocol.ts'

const INFLATE = 0
const STATS = 2
const REPORTING = 3
const QUEUE_SIZE = 128
const REPORTING_QUEUE_SIZE = 32
/** More statistics than there are tags say nothing. */
const MAX_STATS = 64

export interface BalloonOptions extends VirtioDeviceOptions {
  /** Gives whole pages of a range of guest memory back to the host. What it throws is reported once. */
  discard(gpa: number, length: number): void
  /** The driver has changed how many pages the balloon has. */
  onActual?(pages: number): void
  /** The driver has told of its memory. */
  onStats?(stats: BalloonStats): void
  /** Discarding has failed: memory stays where it is. */
  onFailure?(error: unknown): void
  /** The driver may take pages back by itself before it runs out of memory. Default false. */
  deflateOnOom?: boolean
  /** The driver may tell of pages that it does not use, without a balloon. Default false. */
  freePageReporting?: boolean
  /** The driver tells with which value it fills free pages. Default true, as QEMU. */
  pagePoison?: boolean
}

export interface BalloonState {
  wanted: number
  actual: number
  poison: number
  hasStats: boolean
}

/** A virtio memory balloon; `model.setWanted` is the host's end. */
export function createBalloon(options: BalloonOptions): VirtioDevice<BalloonModel> {
  return new VirtioDevice(new BalloonModel(options), options)
}

/** `virtio-balloon` (VirtIO 1.2, section 5.5): the guest gives pages away, and takes them back. */
export class BalloonModel implements DeviceModel<BalloonState> {
  readonly name: string = 'virtio-balloon'
  readonly type: number = VIRTIO_ID_BALLOON
  readonly features: bigint
  readonly queueSizes: readonly number[]
  readonly configBytes: number = CONFIG_BYTES
  readonly #options: BalloonOptions
  readonly #pages: PageList
  readonly #config: DataView = new DataView(new ArrayBuffer(CONFIG_BYTES))
  /** The driver has sent statistics, and waits until it is asked for others. */
  #hasStats = false
  #failed = false
  #context!: DeviceContext

  constructor(options: BalloonOptions) {
    this.#options = options
    this.#pages = new PageList((gpa, length) => this.#discard(gpa, length))
    const { deflateOnOom = false, freePageReporting = false, pagePoison = true } = options
    let features = featureBit(VIRTIO_BALLOON_F_STATS_VQ)
    if (deflateOnOom) features |= featureBit(VIRTIO_BALLOON_F_DEFLATE_ON_OOM)
    if (pagePoison) features |= featureBit(VIRTIO_BALLOON_F_PAGE_POISON)
    if (freePageReporting) features |= featureBit(VIRTIO_BALLOON_F_PAGE_REPORTING)
    this.features = features
    const sizes = [QUEUE_SIZE, QUEUE_SIZE, QUEUE_SIZE]
    // The queue of hints, which would be before it, is not offered: numbers have no gaps.
    this.queueSizes = freePageReporting ? [...sizes, REPORTING_QUEUE_SIZE] : sizes
  }

  /** Pages that the balloon is to have. */
  get wanted(): number {
    return this.#config.getUint32(CONFIG_NUM_PAGES, true)
  }

  /** Pages that it has, as the driver says. */
  get actual(): number {
    return this.#config.getUint32(CONFIG_ACTUAL, true)
  }

  attach(context: DeviceContext): void {
    this.#context = context
  }

  /** Asks the driver for a balloon of so many pages. */
  setWanted(pages: number): void {
    this.#config.setUint32(CONFIG_NUM_PAGES, pages, true)
    this.#context.configChanged()
  }

  /** Asks the driver for new statistics, if it waits for that. `onStats` is called when they are there. */
  requestStats(): void {
    const queue = this.#context.queues[STATS]!
    if (!this.#hasStats || !this.#context.running || !queue.ready) return
    this.#hasStats = false
    this.#context.guard(() => this.#giveBack(queue))
  }

  configRead(offset: number): number {
    return this.#config.getUint8(offset)
  }

  configWrite(offset: number, size: number, value: number): void {
    const before = this.actual
    for (let i = 0; i < size; i++) {
      const at = offset + i
      const isPoison = at >= CONFIG_POISON_VAL
      if (isPoison && !this.#context.hasFeature(VIRTIO_BALLOON_F_PAGE_POISON)) continue
      const isActual = at >= CONFIG_ACTUAL && at < CONFIG_ACTUAL + 4
      if (isPoison || isActual) this.#config.setUint8(at, Math.floor(value / 2 ** (8 * i)) & 0xff)
    }
    if (this.actual !== before) this.#options.onActual?.(this.actual)
  }

  activate(): void {}

  notify(queue: Virtqueue): void {
    if (queue.index === STATS) return this.#stats(queue)
    this.#context.drain(queue, (chain) => {
      if (queue.index === INFLATE) this.#pages.discardListed(chain)
      else if (queue.index === REPORTING) this.#discardUnused(chain)
      // Pages that go back to the guest, by the deflate queue, come into being when it uses them.
      queue.pushUsed(chain, 0)
    })
  }

  resetQueue(queue: Virtqueue): void {
    if (queue.index === STATS) this.#hasStats = false
  }

  reset(): void {
    this.#hasStats = false
    const before = this.actual
    this.#config.setUint32(CONFIG_ACTUAL, 0, true)
    this.#config.setUint32(CONFIG_POISON_VAL, 0, true)
    if (before !== 0) this.#options.onActual?.(0)
  }

  save(): BalloonState {
    const poison = this.#config.getUint32(CONFIG_POISON_VAL, true)
    return { wanted: this.wanted, actual: this.actual, poison, hasStats: this.#hasStats }
  }

  load(state: BalloonState): void {
    const word = int(0, 0xffff_ffff)
    const fields = { wanted: word, actual: word, poison: word, hasStats: flag }
    const s = parseState<BalloonState>(this.name, state, fields)
    this.#config.setUint32(CONFIG_NUM_PAGES, s.wanted, true)
    this.#config.setUint32(CONFIG_ACTUAL, s.actual, true)
    this.#config.setUint32(CONFIG_POISON_VAL, s.poison, true)
    this.#hasStats = s.hasStats
  }

  /**
   * The driver sends one buffer and gets it back when it is asked for others (section 5.5.6.3). Until then it is in the
   * queue, as if it had not been looked at.
   */
  #stats(queue: Virtqueue): void {
    // One may come before the driver sees that it is to kick again.
    for (let budget = queue.size; budget > 0 && this.#takeStats(queue); budget--) {
      queue.enableNotification()
    }
  }

  /** False where there is nothing new, as when the machine goes on. What throws leaves the queue as it was. */
  #takeStats(queue: Virtqueue): boolean {
    const kept = this.#hasStats ? queue.popChain() : undefined
    let chain: DescriptorChain | undefined
    let stats: BalloonStats = {}
    try {
      chain = queue.popChain()
      if (chain !== undefined) stats = statsOf(chain)
    } finally {
      if (chain !== undefined) queue.unpop(chain)
      if (kept !== undefined) queue.unpop(kept)
    }
    if (chain === undefined) return false
    // Nobody has asked for others.
    if (kept !== undefined) this.#giveBack(queue)
    this.#hasStats = true
    this.#options.onStats?.(stats)
    return true
  }

  #giveBack(queue: Virtqueue): void {
    const chain = queue.popChain()
    if (chain === undefined) return
    queue.pushUsed(chain, 0)
    this.#context.signal(queue)
  }

  /** Pages whose contents do not matter. Those that are filled with a poison are to keep it. */
  #discardUnused(chain: DescriptorChain): void {
    if (this.#config.getUint32(CONFIG_POISON_VAL, true) !== 0) return
    for (let i = chain.readableCount; i < chain.count; i++) {
      this.#discard(chain.gpas[i]!, chain.lengths[i]!)
    }
  }

  #discard(gpa: number, length: number): void {
    try {
      this.#options.discard(gpa, length)
    } catch (error) {
      if (!this.#failed) this.#options.onFailure?.(error)
      this.#failed = true
    }
  }
}

function statsOf(chain: DescriptorChain): BalloonStats {
  const length = Math.min(chain.readableBytes, MAX_STATS * STAT_BYTES)
  const bytes = new Uint8Array(length)
  chain.read(0, bytes)
  const view = new DataView(bytes.buffer)
  const stats: BalloonStats = {}
  for (let at = 0; at + STAT_BYTES <= length; at += STAT_BYTES) {
    const name = BALLOON_STATS[view.getUint16(at, true)]
    if (name !== undefined) stats[name] = view.getBigUint64(at + 2, true)
  }
  return stats
}
