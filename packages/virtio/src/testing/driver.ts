import {
  VIRTIO_CONFIG_S_ACKNOWLEDGE,
  VIRTIO_CONFIG_S_DRIVER,
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_F_EVENT_IDX,
  featureBit,
} from '../constants.ts'
import type { VirtioDevice } from '../device.ts'
import type { Interrupt } from '../memory.ts'
import { DriverQueue } from './driver-queue.ts'
import type { FakeMemory } from './memory.ts'
import { type DriverAccess, directAccess } from './access.ts'

export interface DriverOptions {
  /** Features to accept; default all that are offered. */
  features?: bigint
  /** Descriptors of each queue; default the device's most, at most 64. */
  queueSize?: number
  /** Where rings are put, one queue after another. */
  ringGpa?: number
  /** Which queues to use; default all. */
  queues?: readonly number[]
}

/** Counts interrupts. */
export class InterruptCounter implements Interrupt {
  readonly queues: number[] = []
  configs = 0

  queue(index: number): void {
    this.queues.push(index)
  }

  config(): void {
    this.configs++
  }
}

/**
 * A driver for tests: negotiates, makes rings in a {@link FakeMemory} and kicks; through the device
 * itself or through the registers of a transport.
 */
export class FakeDriver {
  readonly memory: FakeMemory
  readonly access: DriverAccess
  readonly queues: Map<number, DriverQueue> = new Map()
  features = 0n

  constructor(memory: FakeMemory, access: DriverAccess) {
    this.memory = memory
    this.access = access
  }

  /** A driver that calls the device without a transport. */
  static direct(memory: FakeMemory, device: VirtioDevice): FakeDriver {
    return new FakeDriver(memory, directAccess(device))
  }

  /** Section 3.1.1 from reset to DRIVER_OK; throws where a device does not follow. */
  start(options: DriverOptions = {}): void {
    const { access } = this
    access.setStatus(0)
    if (access.status() !== 0) throw new Error('the device is still resetting')
    const present = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER
    access.setStatus(VIRTIO_CONFIG_S_ACKNOWLEDGE)
    access.setStatus(present)
    this.features = options.features ?? access.offeredFeatures()
    access.setFeatures(this.features)
    access.setStatus(present | VIRTIO_CONFIG_S_FEATURES_OK)
    if ((access.status() & VIRTIO_CONFIG_S_FEATURES_OK) === 0) {
      throw new Error('the device refuses the features')
    }
    let gpa = options.ringGpa ?? 0x1000
    const count = access.queueCount()
    for (const index of options.queues ?? Array.from({ length: count }, (_, i) => i)) {
      const size = Math.min(options.queueSize ?? 64, access.maxSize(index))
      const eventIdx = (this.features & featureBit(VIRTIO_F_EVENT_IDX)) !== 0n
      const queue = new DriverQueue(this.memory, { gpa, size, eventIdx })
      gpa = Math.ceil(queue.endGpa / 16) * 16
      access.enableQueue(index, queue.layout)
      this.queues.set(index, queue)
    }
    access.setStatus(present | VIRTIO_CONFIG_S_FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)
  }

  queue(index: number): DriverQueue {
    const queue = this.queues.get(index)
    if (queue === undefined) throw new RangeError(`the driver does not use queue ${index}`)
    return queue
  }

  /** Kicks if the device wants to know. */
  kick(index: number): void {
    if (this.queue(index).needsKick()) this.access.notify(index)
  }
}
