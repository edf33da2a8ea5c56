import type { DescriptorChain } from './queue/chain.ts'
import type { QueueLink } from './net/ring-loan.ts'
import type { Virtqueue } from './queue/virtqueue.ts'

/** What a device type is given by the core that it runs in. */
export interface DeviceContext {
  readonly queues: readonly Virtqueue[]
  /** Between DRIVER_OK and reset or failure. */
  readonly running: boolean
  /** True when the driver accepted the feature with this number. */
  hasFeature(number: number): boolean
  /**
   * Pops the chains of a queue and hands them over, with kicks suppressed meanwhile, then signals
   * the driver. Those that are there when `goesOn` says no are left for `again`.
   */
  drain(queue: Virtqueue, consume: (chain: DescriptorChain) => void, goesOn?: () => boolean): void
  /** Calls `notify` for the queue after the present work, to go on with what was left. */
  again(queue: Virtqueue): void
  /** Interrupts the driver if it wants to know of what was pushed. */
  signal(queue: Virtqueue): void
  /** Runs `work` after the present callbacks of the event loop. */
  later(work: () => void): void
  /** Has somebody else told of kicks of a queue, and interrupt for it, as `Interrupt.lend` does. */
  lendQueue(index: number): QueueLink | undefined
  /** Raises the configuration generation and tells the driver. */
  configChanged(): void
  /** Runs `work`; what it throws stops the device. Work that ends later must come through here. */
  guard(work: () => void): void
}

/**
 * A type of virtio device: its registers and what it does with chains. The core negotiates, owns
 * the queues and calls these methods synchronously, never overlapping.
 */
export interface DeviceModel<State = unknown> {
  /** For messages, such as `virtio-blk`. */
  readonly name: string
  /** Device type (VirtIO 1.2, section 5). */
  readonly type: number
  /** Feature bits of the type, 0..23 and 50..127 as far as 64 go. */
  readonly features: bigint
  /** Most descriptors of each queue; powers of two. */
  readonly queueSizes: readonly number[]
  /** Bytes of the configuration space. */
  readonly configBytes: number
  /** Called once, before anything else. */
  attach(context: DeviceContext): void
  /** One byte of the configuration space; `offset` is below `configBytes`. */
  configRead(offset: number): number
  /** `offset + size` is at most `configBytes`; `value` has `size` bytes. */
  configWrite(offset: number, size: number, value: number): void
  /** The driver has accepted `features`; false refuses the combination. */
  accept?(features: bigint): boolean
  /** DRIVER_OK: all queues that the driver wants are ready. */
  activate(): void
  /** A queue was kicked, or may have chains. It is ready and the device is running. */
  notify(queue: Virtqueue): void
  /** Queues that were lent are wanted back: registers, interrupts or the driver may change. */
  yieldRings?(): void
  /** One queue was reset (RING_RESET). */
  resetQueue?(queue: Virtqueue): void
  /** Back to the state after power-on. Chains in flight still have to be pushed when they end. */
  reset(): void
  save(): State
  load(state: State): void
}
