import type { IrqLine } from '../device.ts'

/** Takes the level of one global system interrupt. */
export type IrqSink = (gsi: number, level: 0 | 1) => void

/**
 * Wired-OR interrupt lines: each device drives its own source, the interrupt controller sees the
 * OR.
 *
 * While muted only the levels are tracked. A machine mutes its lines during `load`, because the
 * saved state of the
 * interrupt controller already contains what the lines did.
 */
export class IrqLines {
  readonly #counts = new Map<number, number>()
  readonly #sink: IrqSink
  #muted = false

  constructor(sink: IrqSink) {
    this.#sink = sink
  }

  set muted(value: boolean) {
    this.#muted = value
  }

  /** Creates one more source of `gsi`. */
  source(gsi: number): IrqLine {
    let high = false
    const set = (level: boolean): void => {
      if (level === high) return
      high = level
      const before = this.#counts.get(gsi) ?? 0
      const after = before + (level ? 1 : -1)
      this.#counts.set(gsi, after)
      if (this.#muted) return
      if (before === 0) this.#sink(gsi, 1)
      else if (after === 0) this.#sink(gsi, 0)
    }
    return {
      set,
      pulse() {
        set(true)
        set(false)
      },
    }
  }
}

/** A line that leads nowhere. */
export const unconnectedIrq: IrqLine = { set() {}, pulse() {} }
