import { Transmitter } from '../e1000/transmit.ts'
import type { TransmitLinks, TransmitModel } from '../e1000/transmit-model.ts'
import type { RegisterFile } from '../e1000/register-map.ts'
import { CAUSE_TXDW } from '../e1000/registers.ts'
import {
  CAUSE_TXQ0,
  CAUSE_TXQ1,
  IVAR,
  IVAR_EVERY_WRITE_BACK,
  QUEUE_OFFSET,
  TARC0,
  TARC_ENABLE,
} from './registers.ts'

/** One of the two rings of frames that are sent. */
function transmitQueue(
  queue: number,
  registers: RegisterFile,
  hasVectors: () => boolean,
): TransmitModel {
  const cause = queue === 0 ? CAUSE_TXQ0 : CAUSE_TXQ1
  return {
    name: 'e1000e',
    ringOffset: queue * QUEUE_OFFSET,
    sharesContext: true,
    needsTailInRing: true,
    reportsPackets: () => (registers[IVAR >> 2]! & IVAR_EVERY_WRITE_BACK) !== 0,
    doneCause: () => (hasVectors() ? cause : CAUSE_TXDW),
  }
}

/** Both rings; each sends when the guest has enabled it. */
export class TransmitQueues {
  readonly #registers: RegisterFile
  readonly #queues: readonly Transmitter[]
  #again: NodeJS.Immediate | undefined
  #paused = false

  constructor(links: Omit<TransmitLinks, 'later'>, hasVectors: () => boolean) {
    const { registers } = links
    const all: TransmitLinks = { ...links, later: () => this.#later() }
    this.#registers = registers
    this.#queues = [0, 1].map(
      (queue) => new Transmitter(all, transmitQueue(queue, registers, hasVectors)),
    )
  }

  /** Sends what the guest has put into its rings, unless the machine stands. */
  run(): void {
    if (this.#paused) return
    for (const [queue, transmitter] of this.#queues.entries()) {
      const arbitration = this.#registers[(TARC0 + queue * QUEUE_OFFSET) >> 2]!
      if ((arbitration & TARC_ENABLE) !== 0) transmitter.run()
    }
  }

  /** The other end takes frames again. */
  resume(): void {
    if (this.#queues.some(({ isBlocked }) => isBlocked)) this.run()
  }

  pause(paused: boolean): void {
    this.#paused = paused
    if (paused) return
    this.#later()
    this.resume()
  }

  reset(): void {
    for (const queue of this.#queues) queue.reset()
  }

  save(): unknown[] {
    return this.#queues.map((queue) => queue.save())
  }

  load(state: readonly unknown[] | undefined): void {
    for (const [i, queue] of this.#queues.entries()) queue.load(state?.[i])
  }

  close(): void {
    if (this.#again !== undefined) clearImmediate(this.#again)
    this.#again = undefined
    this.#paused = true
  }

  #later(): void {
    this.#again ??= setImmediate(() => {
      this.#again = undefined
      this.run()
    })
  }
}
