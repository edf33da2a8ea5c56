import type { IrqLine, Stateful } from '../device.ts'
import { int, list, parseState } from './state.ts'

/** Takes the level of one global system interrupt. */
export type IrqSink = (gsi: number, level: 0 | 1) => void

interface Gsi {
  /** Sources that drive it high. */
  count: number
  /** What the interrupt controllers were told last. */
  seen: boolean
  /** It has risen since the lines were held. */
  rose: boolean
  /** How often it has risen. */
  rises: number
}

const MAX_GSI = 255

/** What the controllers have not been told yet, by number of the line. */
export interface IrqLinesState {
  /** They have seen the other level. */
  late: number[]
  /** It has risen since they were held. */
  rose: number[]
}

/**
 * Wired-OR interrupt lines: each device drives its own source, the interrupt controllers see the
 * OR. While the machine stands the lines are held: devices may still change them, and the
 * controllers learn of it when it goes on.
 */
export class IrqLines implements Stateful<IrqLinesState> {
  readonly #gsis = new Map<number, Gsi>()
  readonly #sink: IrqSink
  readonly #onRelease: (() => void)[] = []
  #isHeld = false
  #loaded: IrqLinesState | undefined

  constructor(sink: IrqSink) {
    this.#sink = sink
  }

  /** Creates one more source of `gsi`. */
  source(gsi: number): IrqLine {
    let high = false
    const line = this.#line(gsi)
    const set = (level: boolean): void => {
      if (level === high) return
      high = level
      line.count += level ? 1 : -1
      if (level && line.count === 1) line.rises++
      if (!this.#isHeld) this.#show(gsi, line)
      else if (level && line.count === 1) line.rose = true
    }
    return {
      set,
      pulse() {
        set(true)
        set(false)
      },
    }
  }

  /** How often devices have raised each line, of those that they have. */
  rises(): [gsi: number, count: number][] {
    return Array.from(this.#gsis, ([gsi, { rises }]) => [gsi, rises] as [number, number])
      .filter(([, rises]) => rises > 0)
      .toSorted(([a], [b]) => a - b)
  }

  /** Whether changes are kept back, and messages with them. */
  get isHeld(): boolean {
    return this.#isHeld
  }

  /** Calls `fn` each time after the lines were released. */
  onRelease(fn: () => void): void {
    this.#onRelease.push(fn)
  }

  /** Keeps changes back. */
  hold(): void {
    this.#isHeld = true
  }

  /** Tells the controllers what has changed: levels, and edges of lines that are low again. */
  release(): void {
    this.#isHeld = false
    for (const [gsi, line] of this.#gsis) {
      if (line.rose) {
        if (line.seen) this.#sink(gsi, 0)
        this.#sink(gsi, 1)
        line.seen = true
        line.rose = false
      }
      this.#show(gsi, line)
    }
    for (const fn of this.#onRelease) fn()
  }

  /**
   * The controllers were loaded with a state that has seen the present levels, but for what a state of
   * the lines says that was loaded before; nothing else that happened before counts.
   */
  settle(): void {
    const { late = [], rose = [] } = this.#loaded ?? {}
    this.#loaded = undefined
    for (const [gsi, line] of this.#gsis) {
      line.seen = line.count > 0 !== late.includes(gsi)
      line.rose = rose.includes(gsi)
    }
  }

  reset(): void {
    this.#loaded = undefined
  }

  /** A device may change its line while the machine stands: what is saved then has to tell of it. */
  save(): IrqLinesState {
    const lines = [...this.#gsis].toSorted(([a], [b]) => a - b)
    const which = (test: (line: Gsi) => boolean): number[] =>
      lines.filter(([, line]) => test(line)).map(([gsi]) => gsi)
    return {
      late: which(({ count, seen }) => count > 0 !== seen),
      rose: which(({ rose }) => rose),
    }
  }

  /** Counts from the next `settle` on. */
  load(state: IrqLinesState): void {
    const gsis = list(int(0, MAX_GSI), MAX_GSI + 1)
    this.#loaded = parseState<IrqLinesState>('irq-lines', state, { late: gsis, rose: gsis })
  }

  #line(gsi: number): Gsi {
    let line = this.#gsis.get(gsi)
    if (line === undefined) {
      line = { count: 0, seen: false, rose: false, rises: 0 }
      this.#gsis.set(gsi, line)
    }
    return line
  }

  #show(gsi: number, line: Gsi): void {
    const level = line.count > 0
    if (level === line.seen) return
    line.seen = level
    this.#sink(gsi, level ? 1 : 0)
  }
}

/** A line that leads nowhere. */
export const unconnectedIrq: IrqLine = { set() {}, pulse() {} }
