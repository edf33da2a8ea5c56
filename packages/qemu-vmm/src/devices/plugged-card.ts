import type { Stateful } from '../device.ts'
import type { PluggedDevice } from './device-type.ts'

/** A network card that is no virtio device. */
export interface Card extends Stateful {
  /** While paused no frame comes or goes. */
  pause(paused: boolean): void
  close(): void
}

/** Frames must not come into the memory of a machine that stands. */
export class PluggedCard implements PluggedDevice {
  readonly #device: Card

  constructor(device: Card) {
    this.#device = device
  }

  reset(): void {
    this.#device.reset()
  }

  save(): unknown {
    return this.#device.save()
  }

  load(state: unknown): void {
    // The machine stands, also one that has never run.
    this.pause()
    this.#device.load(state)
  }

  pause(): void {
    this.#device.pause(true)
  }

  resume(): void {
    this.#device.pause(false)
  }

  close(): void {
    this.#device.close()
  }
}
