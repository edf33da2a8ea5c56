import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FAILED,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_RESET,
  VIRTIO_F_VERSION_1,
  featureBit,
} from './constants.ts'
import type { VirtioDeviceOptions, VirtioDeviceState } from './device-options.ts'
import { VirtioError } from './errors.ts'
import type { Interrupt } from './memory.ts'
import type { DeviceContext, DeviceModel } from './model.ts'
import type { DescriptorChain } from './queue/chain.ts'
import type { QueueLink } from './net/ring-loan.ts'
import { type QueueFeatures, Virtqueue } from './queue/virtqueue.ts'
import { flag, int, list, opaque, parseState, word64 } from './state.ts'

export type { VirtioDeviceOptions, VirtioDeviceState } from './device-options.ts'

const DRIVER_BITS =
  VIRTIO_CONFIG_S_ACKNOWLEDGE |
  VIRTIO_CONFIG_S_DRIVER |
  VIRTIO_CONFIG_S_DRIVER_OK |
  VIRTIO_CONFIG_S_FEATURES_OK |
  VIRTIO_CONFIG_S_FAILED

const CORE_FEATURES =
  featureBit(VIRTIO_F_VERSION_1) |
  featureBit(VIRTIO_F_EVENT_IDX) |
  featureBit(VIRTIO_F_INDIRECT_DESC) |
  featureBit(VIRTIO_F_RING_RESET)

/**
 * The part that all virtio devices have: status, feature negotiation, queues, configuration space,
 * reset and failure. A transport shows it to the driver; a {@link DeviceModel} gives it meaning.
 */
export class VirtioDevice<Model extends DeviceModel = DeviceModel> implements DeviceContext {
  readonly model: Model
  readonly queues: readonly Virtqueue[]
  /** What the driver may accept. */
  readonly offeredFeatures: bigint
  /** Set by the transport: its registers go back to their state after power-on, too. */
  onReset: () => void = () => {}
  readonly #onError: (error: unknown) => void
  readonly #later: (work: () => void) => void
  #interrupt: Interrupt = { queue() {}, config() {} }
  #status = 0
  #driverFeatures = 0n
  #legacy = false
  #configGeneration = 0
  #resetting = false
  #paused = false
  #drained: (() => void)[] = []

  constructor(model: Model, options: VirtioDeviceOptions) {
    const { memory, onError, later, withoutFeatures } = options
    this.model = model
    let features = CORE_FEATURES | model.features
    for (const number of withoutFeatures ?? []) features &= ~featureBit(number)
    this.offeredFeatures = features
    this.queues = model.queueSizes.map((size, index) => new Virtqueue(memory, index, size))
    for (const queue of this.queues) queue.onDrained = () => this.#onDrained()
    this.#onError = onError ?? (() => {})
    this.#later = later ?? ((work) => void setImmediate(work))
    model.attach(this)
  }

  /** Where interrupts go. */
  connect(interrupt: Interrupt): void {
    this.#interrupt = interrupt
  }

  /**
   * The status register. During a reset it stays what it was until requests that still read or
   * write guest memory have ended: a driver waits for 0 before it uses that memory again.
   */
  get status(): number {
    return this.#status
  }

  get running(): boolean {
    const bits = this.#status & (VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET)
    return bits === VIRTIO_CONFIG_S_DRIVER_OK && !this.#resetting
  }

  get configGeneration(): number {
    return this.#configGeneration
  }

  get driverFeatures(): bigint {
    return this.#driverFeatures
  }

  hasFeature(number: number): boolean {
    return (this.#driverFeatures & featureBit(number)) !== 0n
  }

  /** 32 of the offered features, as drivers read them. */
  offeredWord(select: number): number {
    return select < 2 ? Number((this.offeredFeatures >> BigInt(32 * select)) & 0xffff_ffffn) : 0
  }

  /** 32 of the accepted features. */
  driverWord(select: number): number {
    return select < 2 ? Number((this.#driverFeatures >> BigInt(32 * select)) & 0xffff_ffffn) : 0
  }

  /** Accepts features; ignored once FEATURES_OK is set. */
  setDriverWord(select: number, value: number): void {
    if (select > 1 || this.#resetting || this.#status & VIRTIO_CONFIG_S_FEATURES_OK) return
    const shift = BigInt(32 * select)
    const others = this.#driverFeatures & ~(0xffff_ffffn << shift)
    this.#driverFeatures = others | (BigInt(value >>> 0) << shift)
  }

  /** Writes the status register: 0 resets, other values set bits (section 3.1.1). */
  writeStatus(value: number): void {
    if ((value & 0xff) === 0) {
      this.reset()
      return
    }
    if (this.#resetting) return
    const before = this.#status
    let added = value & DRIVER_BITS & ~before
    if (added & VIRTIO_CONFIG_S_FEATURES_OK && !this.#accepts()) {
      added &= ~VIRTIO_CONFIG_S_FEATURES_OK
    }
    // A driver without VERSION_1, or one that skips negotiation, is of a kind not served here.
    const negotiated = (before | added) & VIRTIO_CONFIG_S_FEATURES_OK
    if (negotiated === 0 && !this.#legacy) added &= ~VIRTIO_CONFIG_S_DRIVER_OK
    this.#status = before | added
    if (added & VIRTIO_CONFIG_S_DRIVER_OK && this.running) this.#activate()
    else if (added & VIRTIO_CONFIG_S_DRIVER_OK) this.#interrupt.config()
  }

  /** The status register as a legacy driver writes it, which knows no FEATURES_OK. */
  writeLegacyStatus(value: number): void {
    if (value !== 0 && !this.#resetting) this.#legacy = true
    this.writeStatus(value & ~VIRTIO_CONFIG_S_FEATURES_OK)
  }

  /** The features of a legacy driver: of the first 32, those that were offered. */
  acceptLegacy(word: number): void {
    if (this.#status & VIRTIO_CONFIG_S_DRIVER_OK) return
    this.setDriverWord(0, word & this.offeredWord(0))
  }

  /** Back to the state after power-on; await {@link quiesce} before memory is given other use. */
  reset(): void {
    this.yieldRings()
    for (const queue of this.queues) queue.reset()
    this.model.reset()
    this.#driverFeatures = 0n
    this.#legacy = false
    this.#resetting = true
    this.onReset()
    this.#afterDrain()
  }

  /** Makes a queue ready as its registers say; what is wrong with them fails the device. */
  enableQueue(index: number): void {
    const queue = this.queues[index]
    if (queue === undefined || this.#resetting) return
    this.guard(() => queue.enable(this.#queueFeatures()))
    // After RING_RESET a queue comes back in a running device.
    if (this.running && queue.ready) this.notify(index)
  }

  /** RING_RESET (section 2.6.1); it is over when the queue has nothing in flight. */
  resetQueue(index: number): void {
    if (this.hasFeature(VIRTIO_F_RING_RESET)) this.stopQueue(index)
  }

  /** Back to the registers after power-on, for one queue. */
  stopQueue(index: number): void {
    const queue = this.queues[index]
    if (queue === undefined) return
    queue.reset()
    this.guard(() => this.model.resetQueue?.(queue))
  }

  /** An available-buffer notification. Anything that is no ready queue is ignored. */
  notify(index: number): void {
    const queue = this.queues[index]
    if (queue === undefined || !queue.ready || !this.running || this.#paused) return
    this.guard(() => this.model.notify(queue))
  }

  /** 1, 2 or 4 bytes of the configuration space; 0 beyond its end. */
  configRead(offset: number, size: number): number {
    let value = 0
    for (let i = 0; i < size; i++) {
      const at = offset + i
      if (at < this.model.configBytes) value += this.model.configRead(at) * 2 ** (8 * i)
    }
    return value
  }

  configWrite(offset: number, size: number, value: number): void {
    if (offset + size > this.model.configBytes) return
    this.guard(() => this.model.configWrite(offset, size, value))
  }

  /** Sets NEEDS_RESET and stops this device alone (section 2.1.2). */
  fail(error: unknown): void {
    if (this.#status & VIRTIO_CONFIG_S_NEEDS_RESET) return
    this.yieldRings()
    // A queue that comes back and cannot go on has failed the device meanwhile.
    if (this.#status & VIRTIO_CONFIG_S_NEEDS_RESET) return
    for (const queue of this.queues) queue.halt()
    const told = this.#status & VIRTIO_CONFIG_S_DRIVER_OK
    this.#status |= VIRTIO_CONFIG_S_NEEDS_RESET
    this.#onError(error)
    if (told) this.#interrupt.config()
  }

  guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.fail(error)
    }
  }

  drain(queue: Virtqueue, consume: (chain: DescriptorChain) => void, goesOn?: () => boolean): void {
    // A driver on another CPU may refill as fast as this empties.
    let budget = queue.size
    do {
      queue.disableNotification()
      for (let chain = queue.popChain(); chain !== undefined; chain = queue.popChain()) {
        try {
          consume(chain)
        } catch (error) {
          this.fail(error)
          // A chain of a failed device goes back without being seen.
          if (chain.inUse) queue.pushUsed(chain, 0)
          return
        }
        const last = --budget === 0 || (goesOn !== undefined && !goesOn())
        if (last && queue.hasChains()) {
          this.signal(queue)
          this.again(queue)
          return
        }
      }
    } while (queue.enableNotification())
    this.signal(queue)
  }

  again(queue: Virtqueue): void {
    this.#later(() => this.notify(queue.index))
  }

  later(work: () => void): void {
    this.#later(work)
  }

  signal(queue: Virtqueue): void {
    if (queue.shouldNotify()) this.#interrupt.queue(queue.index)
  }

  lendQueue(index: number): QueueLink | undefined {
    return this.#interrupt.lend?.(index)
  }

  /** Has queues back that are served by others, before anything changes of what those know. */
  yieldRings(): void {
    this.model.yieldRings?.()
  }

  configChanged(): void {
    this.#configGeneration = (this.#configGeneration + 1) & 0xff
    if (this.running) this.#interrupt.config()
  }

  /** Chains of all queues that were popped and have not come back. */
  get inFlight(): number {
    return this.queues.reduce((sum, queue) => sum + queue.inFlight, 0)
  }

  /** Resolves when nothing is in flight, so that nothing of this device touches guest memory. */
  async quiesce(): Promise<void> {
    while (this.inFlight > 0) {
      await new Promise<void>((resolve) => void this.#drained.push(resolve))
    }
  }

  /** Chains in flight are part of the state and are carried out again after `load`. */
  save(): VirtioDeviceState {
    this.yieldRings()
    return {
      status: this.#resetting ? 0 : this.#status,
      driverFeatures: this.#driverFeatures,
      configGeneration: this.#configGeneration,
      legacy: this.#legacy,
      queues: this.queues.map((queue) => queue.save()),
      model: this.model.save() as object,
    }
  }

  /** Call {@link resume} once memory and transport are loaded, too, and the machine runs. */
  load(state: VirtioDeviceState): void {
    const name = this.model.name
    const s = parseState<VirtioDeviceState>(name, state, {
      status: int(0, 0xff),
      driverFeatures: word64,
      configGeneration: int(0, 0xff),
      legacy: flag,
      queues: list(opaque, this.queues.length, this.queues.length) as never,
      model: opaque,
    })
    const negotiated = s.status & VIRTIO_CONFIG_S_FEATURES_OK || s.legacy
    if (negotiated && s.driverFeatures & ~this.offeredFeatures) {
      const missing = (s.driverFeatures & ~this.offeredFeatures).toString(16)
      throw new VirtioError('E_STATE', `the saved ${name} uses features 0x${missing} not offered`, {
        fields: { device: name, features: missing },
      })
    }
    this.#driverFeatures = s.driverFeatures
    this.#legacy = s.legacy
    const features = this.#queueFeatures()
    for (const queue of this.queues) queue.load(s.queues[queue.index]!, features)
    this.model.load(s.model)
    this.#status = s.status
    this.#configGeneration = s.configGeneration
    this.#resetting = false
  }

  /** Takes no chains from now on. Those that were taken are carried out: {@link quiesce} waits for them. */
  pause(): void {
    this.#paused = true
  }

  /** Looks at all queues, as after a kick of each. */
  resume(): void {
    this.#paused = false
    for (const queue of this.queues) this.notify(queue.index)
  }

  #activate(): void {
    const features = this.#queueFeatures()
    for (const queue of this.queues) queue.setFeatures(features)
    this.guard(() => this.model.activate())
    for (const queue of this.queues) this.notify(queue.index)
  }

  #accepts(): boolean {
    const features = this.#driverFeatures
    if (features & ~this.offeredFeatures || !this.hasFeature(VIRTIO_F_VERSION_1)) return false
    return this.model.accept?.(features) ?? true
  }

  #queueFeatures(): QueueFeatures {
    return {
      eventIdx: this.hasFeature(VIRTIO_F_EVENT_IDX),
      indirect: this.hasFeature(VIRTIO_F_INDIRECT_DESC),
    }
  }

  /** A queue drains after nearly every request, and hardly ever does somebody wait for it. */
  #onDrained(): void {
    if (this.#resetting || this.#drained.length > 0) this.#afterDrain()
  }

  #afterDrain(): void {
    if (this.inFlight > 0) return
    if (this.#resetting) {
      this.#resetting = false
      this.#status = 0
    }
    const waiting = this.#drained
    this.#drained = []
    for (const resolve of waiting) resolve()
  }
}
