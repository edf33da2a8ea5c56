/** All bits of a register. */
export const ALL = 0xffff_ffff

/** What reading a register does to it: nothing, or what counters do, alone or with the lower half before it. */
export type ReadEffect = 'none' | 'clear' | 'clear both'

/** A run of registers of one kind. */
export interface Span {
  first: number
  count: number
  /** Bits that the guest sets. */
  writable: number
  effect: ReadEffect
}

/** Registers that hold what is written to them, as far as `writable` lets it. */
export const span = (first: number, writable: number, count: number = 1): Span => ({
  first,
  count,
  writable,
  effect: 'none',
})

/** Counters of 32 bits, which a read clears. */
export const counters = (first: number, count: number): Span => ({
  first,
  count,
  writable: 0,
  effect: 'clear',
})

/** A counter of 64 bits; reading its upper half clears it. */
export const pair = (low: number): Span[] => [
  span(low, 0),
  { first: low + 4, count: 1, writable: 0, effect: 'clear both' },
]

/** The registers that a card has. */
export class RegisterMap {
  readonly #sorted: readonly Span[]

  constructor(spans: readonly Span[]) {
    this.#sorted = spans.toSorted((a, b) => a.first - b.first)
  }

  /** The kind of the register at an offset, a multiple of 4; undefined where there is none. */
  at(offset: number): Span | undefined {
    let [low, high] = [0, this.#sorted.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      const { first, count } = this.#sorted[middle]!
      if (first + 4 * count > offset) high = middle
      else low = middle + 1
    }
    const found = this.#sorted[low]
    return found !== undefined && found.first <= offset ? found : undefined
  }
}

/** The registers' values, by offset / 4. */
export type RegisterFile = Uint32Array<ArrayBuffer>

/** Counts up; a full counter stays full. */
export function count(registers: RegisterFile, offset: number): void {
  if (registers[offset >> 2]! !== ALL) registers[offset >> 2]!++
}

/** Adds to a counter of 64 bits that begins there; a full one stays full. */
export function grow(registers: RegisterFile, offset: number, by: number): void {
  const low = registers[offset >> 2]! + by
  if (low <= ALL) {
    registers[offset >> 2] = low
    return
  }
  const high = registers[(offset >> 2) + 1]!
  registers[offset >> 2] = high === ALL ? ALL : low
  if (high !== ALL) registers[(offset >> 2) + 1] = high + 1
}

/** Counts a frame by its size with check sequence, from the counter for 64 bytes on. */
export function countSize(registers: RegisterFile, first: number, bytes: number): void {
  if (bytes < 64) return
  const limits = [64, 127, 255, 511, 1023]
  const at = limits.findIndex((limit) => bytes <= limit)
  count(registers, first + 4 * (at < 0 ? limits.length : at))
}
