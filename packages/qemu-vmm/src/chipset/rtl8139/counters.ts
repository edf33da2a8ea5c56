import { parseState } from '../../machine/state.ts'
import type { Field } from '../../machine/state.ts'

const BYTES = 64
/** Fields of the dump: name, offset, bytes (RTL8139C+ data sheet, 5.4). */
const FIELDS = [
  ['txOk', 0, 8],
  ['rxOk', 8, 8],
  ['txErrors', 16, 8],
  ['rxErrors', 24, 4],
  ['missed', 28, 2],
  ['rxOkPhysical', 40, 8],
  ['rxOkBroadcast', 48, 8],
  ['rxOkGroup', 56, 4],
  ['txAborted', 60, 2],
] as const

type Name = (typeof FIELDS)[number][0]

const whole: Field<number> = (value) =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined

/** Statistics, which the guest has written to its memory. */
export class TallyCounters {
  readonly #values: Record<Name, number> = zeroes()

  count(name: Name): void {
    this.#values[name]++
  }

  reset(): void {
    Object.assign(this.#values, zeroes())
  }

  dump(): Uint8Array {
    const view = new DataView(new ArrayBuffer(BYTES))
    for (const [name, at, bytes] of FIELDS) {
      const value = this.#values[name]
      if (bytes === 8) view.setBigUint64(at, BigInt(value), true)
      else if (bytes === 4) view.setUint32(at, value, true)
      else view.setUint16(at, value, true)
    }
    return new Uint8Array(view.buffer)
  }

  save(): Record<Name, number> {
    return { ...this.#values }
  }

  load(state: unknown): void {
    const fields = Object.fromEntries(FIELDS.map(([name]) => [name, whole]))
    const checked = parseState<Record<Name, number>>(
      'rtl8139',
      state,
      fields as Record<Name, Field<number>>,
    )
    Object.assign(this.#values, checked)
  }
}

function zeroes(): Record<Name, number> {
  return Object.fromEntries(FIELDS.map(([name]) => [name, 0])) as Record<Name, number>
}
