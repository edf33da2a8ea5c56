// What a virtio device is made of, and what is saved of it.
import type { GuestMemory } from './memory.ts'
import type { VirtqueueState } from './queue/queue-state.ts'

export interface VirtioDeviceOptions {
  memory: GuestMemory
  /** Told of the error that made the device need a reset. */
  onError?: (error: unknown) => void
  /** Runs a function after the present call, for work that a busy driver would make endless. */
  later?: (work: () => void) => void
  /** Features of the core that shall not be offered, such as EVENT_IDX. */
  withoutFeatures?: readonly number[]
}

/** State of a device without its transport. */
export interface VirtioDeviceState {
  status: number
  driverFeatures: bigint
  configGeneration: number
  /** The driver is of before VirtIO 1.0. */
  legacy: boolean
  queues: VirtqueueState[]
  model: object
}
