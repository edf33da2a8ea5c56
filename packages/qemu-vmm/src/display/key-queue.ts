import type { Clock } from '../device.ts'
import { VmmError } from '../errors.ts'
import type { Key } from './keys.ts'

/** A keyboard: false when it has no room for the bytes now. */
export interface KeySink {
  sendKey(key: Key, isDown: boolean): boolean
}

type Step = { key: Key; isDown: boolean } | { waitNs: number }

const RETRY_NS = 5_000_000
/** What waits for the keyboard at most; a guest that takes no keys must not fill memory. */
const MAX_STEPS = 16_384

/**
 * How long each key of a typed text is held. A BIOS has room for 15 keys, and whoever reads them may be busy with the screen:
 * more than that at once would be lost behind the keyboard, where nobody can tell.
 */
export const TYPED_MS = 20

/** Keys on their way to a keyboard that holds few of them at a time. */
export class KeyQueue {
  readonly #sink: KeySink
  readonly #clock: Clock
  #steps: Step[] = []
  #isWaiting = false

  constructor(sink: KeySink, clock: Clock) {
    this.#sink = sink
    this.#clock = clock
  }

  /**
   * Presses keys together, and releases them after `holdMs` of guest time. Throws `E_KEY` when too
   * many wait.
   */
  press(keys: readonly Key[], holdMs: number = 0): void {
    if (this.#steps.length + 2 * keys.length + 1 > MAX_STEPS) {
      throw new VmmError('E_KEY', 'the guest takes no keys, and too many wait already')
    }
    for (const key of keys) this.#steps.push({ key, isDown: true })
    if (holdMs > 0) this.#steps.push({ waitNs: holdMs * 1_000_000 })
    for (const key of keys.toReversed()) this.#steps.push({ key, isDown: false })
    if (!this.#isWaiting) this.#run()
  }

  /** Forgets what waits. */
  clear(): void {
    this.#steps = []
  }

  #run(): void {
    for (let step = this.#steps[0]; step !== undefined; step = this.#steps[0]) {
      if ('waitNs' in step) {
        this.#steps.shift()
        this.#wait(step.waitNs)
        return
      }
      if (!this.#sink.sendKey(step.key, step.isDown)) {
        this.#wait(RETRY_NS)
        return
      }
      this.#steps.shift()
    }
  }

  #wait(ns: number): void {
    this.#isWaiting = true
    this.#clock.setTimer(this.#clock.nowNs() + ns, () => {
      this.#isWaiting = false
      this.#run()
    })
  }
}
