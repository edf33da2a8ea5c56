import { VIRTIO_F_VERSION_1, VIRTIO_ID_NET, featureBit } from '../../constants.ts'
import { VirtioDevice } from '../../device.ts'
import { VirtioError } from '../../errors.ts'
import type { DeviceContext, DeviceModel } from '../../model.ts'
import { type FrameBatch, MAX_FRAME_BYTES, RECORD_FRAME_OFFSET } from '../../net/frame-batch.ts'
import type { LinkEnd, LinkSide, RxFilter } from '../../net/link.ts'
import type { DescriptorChain } from '../../queue/chain.ts'
import type { Virtqueue } from '../../queue/virtqueue.ts'
import { netControl } from './control.ts'
import { FlowTable } from './flows.ts'
import { type DriverTerms, NetLender } from './lender.ts'
import { ALL_GUEST_OFFLOADS, guestAccepts, hostAccepts } from './offloads.ts'
import { type NetOptions, checkNetOptions, netFeatures } from './options.ts'
import {
  CONFIG_BYTES,
  CONFIG_MAX_PAIRS,
  CONFIG_MTU,
  CONFIG_STATUS,
  LEGACY_HDR_BYTES,
  MAC_BYTES,
  VIRTIO_NET_ERR,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_VLAN,
  VIRTIO_NET_F_GUEST_ANNOUNCE,
  VIRTIO_NET_F_GUEST_CSUM,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_OK,
  VIRTIO_NET_S_ANNOUNCE,
  VIRTIO_NET_S_LINK_UP,
} from './protocol.ts'
import { NetReceiver } from './receive.ts'
import { NetFilter } from './rx-filter.ts'
import { type NetState, parseNetState } from './net-state.ts'
import { NetTransmitter } from './transmit.ts'

const CONTROL_QUEUE_SIZE = 64

/** A virtio network card, plugged into `options.side` of a link. */
export function createNet(options: NetOptions): VirtioDevice<NetModel> {
  const device = new VirtioDevice(new NetModel(options), options)
  options.side.attach(device.model)
  return device
}

/** `virtio-net` (VirtIO 1.2, section 5.1), an end of a link. */
export class NetModel implements DeviceModel<NetState>, LinkEnd {
  readonly name: string = 'virtio-net'
  readonly type: number = VIRTIO_ID_NET
  readonly features: bigint
  readonly queueSizes: readonly number[]
  readonly configBytes: number = CONFIG_BYTES
  readonly maxFrame: number = MAX_FRAME_BYTES
  readonly #side: LinkSide
  readonly #mac: Uint8Array
  readonly #maxPairs: number
  readonly #config: DataView = new DataView(new ArrayBuffer(CONFIG_BYTES))
  readonly #filter: NetFilter = new NetFilter()
  readonly #tx: NetTransmitter
  readonly #rx: NetReceiver = new NetReceiver()
  readonly #lender: NetLender
  readonly #flows: FlowTable = new FlowTable()
  /** Receive queues with frames since the driver was last told. */
  readonly #toSignal: Set<Virtqueue> = new Set()
  #context!: DeviceContext
  #pairs = 1
  #announce = false
  #guestOffloads = 0n
  /** The other end waits for buffers. */
  #starving = false
  #paused = false
  /** Frames that the driver did not want, or had no fitting buffers for. */
  rxDropped = 0

  constructor(options: NetOptions) {
    checkNetOptions(options)
    const { side, mac, queuePairs = 1, rxQueueSize = 256, txQueueSize = 256, hostMtu } = options
    this.#side = side
    this.#mac = mac.slice()
    this.#maxPairs = queuePairs
    this.#tx = new NetTransmitter(side)
    this.#lender = new NetLender(side, options.nativeCalls)
    this.features = netFeatures(options, side.peerAccepts)
    const pairs = Array.from({ length: queuePairs }, () => [rxQueueSize, txQueueSize])
    const control = options.enable?.ctrlVq === false ? [] : [CONTROL_QUEUE_SIZE]
    this.queueSizes = [...pairs.flat(), ...control]
    this.#config.setUint16(CONFIG_MAX_PAIRS, queuePairs, true)
    this.#config.setUint16(CONFIG_MTU, hostMtu ?? 0, true)
    this.reset()
  }

  get accepts(): number {
    return this.#context.running ? guestAccepts(this.#guestOffloads) : 0
  }

  /** Frames of the driver that made no sense. */
  get txErrors(): number {
    return this.#tx.errors
  }

  attach(context: DeviceContext): void {
    this.#context = context
  }

  configRead(offset: number): number {
    if (offset < MAC_BYTES) return this.#filter.mac[offset]!
    if (offset !== CONFIG_STATUS) return this.#config.getUint8(offset)
    const up = this.#side.link.up ? VIRTIO_NET_S_LINK_UP : 0
    return up | (this.#announce ? VIRTIO_NET_S_ANNOUNCE : 0)
  }

  /** Drivers of before VirtIO 1.0 set the address here. */
  configWrite(offset: number, size: number, value: number): void {
    const context = this.#context
    if (offset + size > MAC_BYTES || context.hasFeature(VIRTIO_F_VERSION_1)) return
    if (context.hasFeature(VIRTIO_NET_F_CTRL_MAC_ADDR)) return
    for (let i = 0; i < size; i++) this.#filter.mac[offset + i] = (value / 2 ** (8 * i)) & 0xff
  }

  activate(): void {
    this.#negotiated()
    this.#guestOffloads = this.#negotiatedOffloads()
    this.#filter.filterVlans(this.#context.hasFeature(VIRTIO_NET_F_CTRL_VLAN))
    this.#side.acceptsChanged()
  }

  notify(queue: Virtqueue): void {
    if (queue.index === this.#controlQueue) {
      this.yieldRings()
      this.#control(queue)
    } else if (queue.index >= 2 * this.#pairs || this.#lender.kick()) return
    else if (queue.index % 2 === 1) {
      this.#transmit(queue)
      this.#lend()
    } else this.#unstarve()
  }

  yieldRings(): void {
    if (!this.#lender.isLent) return
    this.#context.guard(() => {
      this.#tx.errors += this.#lender.end()?.errors ?? 0
    })
    // There may have been a kick, and the other end may have frames, that nobody has looked at.
    this.#starving = true
    this.#context.later(() => this.#unstarve())
    this.#context.again(this.#context.queues[1]!)
  }

  receive(batch: FrameBatch, from: number): number {
    const context = this.#context
    this.yieldRings()
    if (this.#paused) {
      this.#starving = true
      return from
    }
    // Nobody listens: as a cable to a card without a driver.
    if (!context.running) return batch.used
    let at = from
    // A bad ring fails the device, and a failed device takes no frames.
    context.guard(() => {
      while (at < batch.used && this.#deliver(batch, at)) at = batch.next(at)
    })
    for (const queue of this.#toSignal) context.guard(() => context.signal(queue))
    this.#toSignal.clear()
    return context.running ? at : batch.used
  }

  /** The other end takes frames again. */
  resume(): void {
    if (this.#paused || !this.#tx.isBlocked || !this.#tx.flush()) return
    for (let pair = 0; pair < this.#pairs; pair++)
      this.#context.again(this.#context.queues[2 * pair + 1]!)
  }

  linkChanged(): void {
    this.#context.configChanged()
  }

  rxFilter(): RxFilter {
    return this.#filter.info()
  }

  /** Asks the driver to tell the network where it is now (section 5.1.6.5.4). */
  announce(): void {
    if (!this.#context.running || !this.#context.hasFeature(VIRTIO_NET_F_GUEST_ANNOUNCE)) return
    this.#announce = true
    this.#context.configChanged()
  }

  /** While paused no frame comes or goes. */
  pause(paused: boolean): void {
    if (paused === this.#paused) return
    this.yieldRings()
    this.#paused = paused
    if (paused) return
    this.resume()
    if (!this.#starving) return
    this.#starving = false
    this.#side.ready()
  }

  resetQueue(queue: Virtqueue): void {
    // What waits for buffers would wait for those of a queue that may never come back.
    if (queue.index % 2 === 0) this.#context.later(() => this.#unstarve())
  }

  reset(): void {
    this.#filter.reset(this.#mac)
    this.#tx.clear()
    this.#flows.clear()
    this.#toSignal.clear()
    this.#pairs = 1
    this.#announce = false
    this.#guestOffloads = 0n
    // The first call is before the device is there.
    if ((this.#context as DeviceContext | undefined) === undefined) return
    this.#side.acceptsChanged()
    this.#context.later(() => this.#unstarve())
  }

  save(): NetState {
    return {
      filter: this.#filter.save(),
      pairs: this.#pairs,
      announce: this.#announce,
      guestOffloads: this.#guestOffloads,
      pending: this.#tx.save(),
    }
  }

  load(state: NetState): void {
    const s = parseNetState(this.name, state, this.#maxPairs, this.#negotiatedOffloads())
    this.#filter.load(this.name, s.filter)
    this.#tx.load(s.pending)
    this.#pairs = s.pairs
    this.#announce = s.announce
    this.#guestOffloads = s.guestOffloads
    this.#negotiated()
  }

  /** The control queue is behind those that the driver knows of (section 5.1.2). */
  get #controlQueue(): number {
    return this.#context.hasFeature(VIRTIO_NET_F_MQ) ? 2 * this.#maxPairs : 2
  }

  #negotiatedOffloads(): bigint {
    let offloads = 0n
    for (const feature of ALL_GUEST_OFFLOADS) {
      if (this.#context.hasFeature(feature)) offloads |= featureBit(feature)
    }
    return offloads
  }

  /** What features mean for the two directions. */
  #negotiated(): void {
    const context = this.#context
    const mergeable = context.hasFeature(VIRTIO_NET_F_MRG_RXBUF)
    const isShort = !mergeable && !context.hasFeature(VIRTIO_F_VERSION_1)
    this.#rx.headerBytes = isShort ? LEGACY_HDR_BYTES : LEGACY_HDR_BYTES + 2
    this.#rx.mergeable = mergeable
    this.#rx.checksums = context.hasFeature(VIRTIO_NET_F_GUEST_CSUM)
    this.#tx.headerBytes = this.#rx.headerBytes
    this.#tx.offloads = hostAccepts(context)
  }

  /** Lets the other end serve the data queues, once nothing waits here. */
  #lend(): void {
    if (this.#paused || this.#starving || this.#tx.isBlocked || this.#pairs > 1) return
    this.#lender.begin(this.#context, this.#terms, () => this.yieldRings())
  }

  readonly #terms = (): DriverTerms => {
    const { mergeable, checksums } = this.#rx
    const { mac, ...filter } = this.#filter.certain()
    return { mergeable, checksums, offloads: this.#tx.offloads, mac, ...filter }
  }

  #unstarve(): void {
    if (!this.#starving || this.#paused) return
    this.#starving = false
    this.#side.ready()
  }

  /** False when there are no buffers for this frame now. */
  #deliver(batch: FrameBatch, at: number): boolean {
    const frame = at + RECORD_FRAME_OFFSET
    const length = batch.frameBytes(at)
    if (!this.#filter.passes(batch.bytes, frame, length)) {
      this.rxDropped++
      return true
    }
    const pair = this.#pairs === 1 ? 0 : this.#flows.pairOf(batch.bytes, frame, length)
    const queue = this.#context.queues[2 * (pair < this.#pairs ? pair : 0)]!
    if (!queue.ready) {
      this.rxDropped++
      return true
    }
    let delivery = this.#rx.deliver(queue, batch, at)
    if (delivery === 'no room' && queue.enableNotification()) {
      delivery = this.#rx.deliver(queue, batch, at)
    }
    if (delivery === 'no room') {
      this.#starving = true
      return false
    }
    if (delivery === 'taken') this.#toSignal.add(queue)
    else this.rxDropped++
    return true
  }

  /** Sends what the driver has put into a queue, as few batches as it fits into. */
  #transmit(queue: Virtqueue): void {
    const tx = this.#tx
    if (this.#paused || tx.isBlocked) return
    const pair = queue.index >> 1
    let budget = queue.size
    let more = true
    while (more && budget > 0) {
      queue.disableNotification()
      while (budget > 0 && !tx.isFull) {
        const chain = queue.popChain()
        if (chain === undefined) break
        budget--
        this.#addFrame(queue, chain, pair)
      }
      if (!tx.flush()) break
      // A ring that was exactly full is empty now: without being asked, its driver would not kick.
      more = (budget === 0 && queue.hasChains()) || queue.enableNotification()
    }
    this.#context.signal(queue)
    if (!tx.isBlocked && more) this.#context.again(queue)
  }

  #addFrame(queue: Virtqueue, chain: DescriptorChain, pair: number): void {
    const tx = this.#tx
    let at = -1
    try {
      at = tx.add(chain)
    } catch (error) {
      queue.unpop(chain)
      throw error
    }
    queue.pushUsed(chain, 0)
    if (at < 0 || this.#pairs === 1) return
    const frame = at + RECORD_FRAME_OFFSET
    this.#flows.note(tx.batch.bytes, frame, tx.batch.frameBytes(at), pair)
  }

  #control(queue: Virtqueue): void {
    const context = this.#context
    context.drain(queue, (chain) => {
      if (chain.readableBytes < 2 || chain.writableBytes < 1) {
        throw new VirtioError(
          'E_REQUEST',
          `a command of ${this.name} has ${chain.readableBytes} readable and ` +
            `${chain.writableBytes} writable bytes; the least are 2 and 1`,
        )
      }
      const ok = netControl(context, this.#target, chain)
      chain.writeByte(0, ok ? VIRTIO_NET_OK : VIRTIO_NET_ERR)
      queue.pushUsed(chain, 1)
    })
  }

  readonly #target = {
    filter: this.#filter,
    setPairs: (pairs: number): boolean => {
      if (pairs < 1 || pairs > this.#maxPairs) return false
      this.#pairs = pairs
      for (let pair = 0; pair < pairs; pair++)
        this.#context.again(this.#context.queues[2 * pair + 1]!)
      this.#context.later(() => this.#unstarve())
      return true
    },
    setGuestOffloads: (offloads: bigint): boolean => {
      if (offloads & ~this.#negotiatedOffloads()) return false
      this.#guestOffloads = offloads
      this.#side.acceptsChanged()
      return true
    },
    announced: (): void => {
      this.#announce = false
    },
  }
}
