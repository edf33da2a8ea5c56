import { VIRTIO_ID_RNG } from '../../constants.ts'
import { VirtioDevice, type VirtioDeviceOptions } from '../../device.ts'
import type { Entropy } from '../../memory.ts'
import type { DeviceContext, DeviceModel } from '../../model.ts'
import type { DescriptorChain } from '../../queue/chain.ts'
import type { Virtqueue } from '../../queue/virtqueue.ts'

/**
 * Bytes for one request at most. A chain may describe the same memory many times over, so the sum
 * of its lengths is no measure of what the driver really wants.
 */
const MAX_REQUEST_BYTES = 64 << 10
const QUEUE_SIZE = 8

export interface RngOptions extends VirtioDeviceOptions {
  entropy: Entropy
}

/** A virtio entropy device. */
export function createRng(options: RngOptions): VirtioDevice<RngModel> {
  return new VirtioDevice(new RngModel(options.entropy), options)
}

/** `virtio-rng` (VirtIO 1.2, section 5.4): fills what the driver sends. */
export class RngModel implements DeviceModel<object> {
  readonly name: string = 'virtio-rng'
  readonly type: number = VIRTIO_ID_RNG
  readonly features: bigint = 0n
  readonly queueSizes: readonly number[] = [QUEUE_SIZE]
  readonly configBytes: number = 0
  readonly #entropy: Entropy
  #context!: DeviceContext

  constructor(entropy: Entropy) {
    this.#entropy = entropy
  }

  attach(context: DeviceContext): void {
    this.#context = context
  }

  configRead(): number {
    return 0
  }

  configWrite(): void {}

  activate(): void {}

  notify(queue: Virtqueue): void {
    this.#context.drain(queue, (chain) => {
      const length = Math.min(chain.writableBytes, MAX_REQUEST_BYTES)
      // Never straight into guest memory: it is the driver's again after a reset.
      const bytes = new Uint8Array(length)
      const filled = this.#entropy.fill(bytes)
      if (!(filled instanceof Promise)) return this.#answer(queue, chain, bytes)
      void filled.then(
        () => this.#later(queue, chain, bytes),
        () => this.#later(queue, chain, new Uint8Array(0)),
      )
    })
  }

  #later(queue: Virtqueue, chain: DescriptorChain, bytes: Uint8Array): void {
    this.#context.guard(() => this.#answer(queue, chain, bytes))
    this.#context.guard(() => this.#context.signal(queue))
  }

  #answer(queue: Virtqueue, chain: DescriptorChain, bytes: Uint8Array): void {
    if (chain.live) chain.write(0, bytes)
    queue.pushUsed(chain, bytes.length)
  }

  reset(): void {}

  save(): object {
    return {}
  }

  load(): void {}
}
