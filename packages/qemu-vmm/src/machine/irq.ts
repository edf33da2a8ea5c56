import type { IrqLine } from '../device.ts'

/** Takes the level of one global system interrupt. */
export type IrqSink = (gsi: number, level: 0 | 1) => void

interface Gsi {
  /** Sources that drive it high. */
  count: number
  /** What the interrupt controllers were told last. */
  seen: boolean
  /** It has risen since the lines were held. */
  rose: boolean
}

/**
 * Wired-OR interrupt lines: each device drives its own source, the interrupt controllers see the
 * OR. While the machine stands the lines are held: devices may still change them, and the
 * controllers learn of it when it goes on.
 */
export class IrqLines {
  readonly #gsis = new Map<number, Gsi>()
  readonly #sink: IrqSink
  readonly #onRelease: (() => void)[] = []
  #isHeld = false

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
   * The controllers were loaded with a state that has seen the present levels; nothing that
   * happened before counts.
   */
  settle(): void {
    for (const line of this.#gsis.values()) {
      line.seen = line.count > 0
      line.rose = false
    }
  }

  #line(gsi: number): Gsi {
    let line = this.#gsis.get(gsi)
    if (line === undefined) {
      line = { count: 0, seen: false, rose: false }
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
