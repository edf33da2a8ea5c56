import type { DriverQueue } from './driver-queue.ts'
import type { FakeMemory } from './memory.ts'

/** xorshift32: as random as a test needs, and the same each time. */
export class Random {
  #word: number

  constructor(seed: number) {
    this.#word = seed >>> 0 || 1
  }

  word(): number {
    this.#word ^= this.#word << 13
    this.#word ^= this.#word >>> 17
    this.#word ^= this.#word << 5
    return this.#word >>> 0
  }

  below(limit: number): number {
    return this.word() % limit
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!
  }
}

/** Lengths and addresses at which mistakes happen. */
const LENGTHS = [0, 1, 8, 15, 16, 17, 512, 513, 4096, 0x1_0000, 0x7fff_ffff, 0xffff_ffff]
const EDGES: readonly bigint[] = [
  0n,
  0xffff_ffffn,
  0x1_0000_0000n,
  (1n << 52n) - 1n,
  (1n << 53n) - 16n,
  (1n << 64n) - 1n,
]

/**
 * Does to a queue, in memory of `ramBytes` from 0, what no driver should: loops, addresses that are
 * nowhere or inside the rings, torn and nested indirect tables, wild indices. Some of it is valid.
 */
export function hostileQueue(
  random: Random,
  memory: FakeMemory,
  queue: DriverQueue,
  ramBytes: number,
): void {
  const { size, descGpa } = queue.layout
  const gpa = (): bigint => {
    const kind = random.below(16)
    if (kind === 0) return random.pick(EDGES)
    if (kind === 1) return BigInt(ramBytes - random.below(32))
    if (kind === 2) return BigInt(descGpa + random.below(queue.endGpa - descGpa))
    return BigInt(random.below(ramBytes))
  }
  const length = (): number => (random.below(3) ? random.below(600) : random.pick(LENGTHS))
  const raw = (): { gpa: bigint; length: number; flags: number; next: number } => ({
    gpa: gpa(),
    length: length(),
    flags: random.below(16) ? random.below(4) : random.below(0x1_0000),
    next: random.below(16) ? random.below(size) : random.below(0x1_0000),
  })
  for (let i = random.below(4) + 1; i > 0; i--) queue.writeRaw(random.below(size), raw())
  if (random.below(4) === 0) {
    const count = random.below(8) + 1
    const at = random.below(ramBytes - 16 * count)
    const table = memory.view(at, 16 * count)
    for (let i = 0; i < count; i++)
      queue.writeRaw(i, { ...raw(), next: random.below(count) }, table)
    const bytes = random.below(8) ? 16 * count : length()
    const flags = random.below(8) ? 4 : 5
    queue.writeRaw(random.below(size), { gpa: at, length: bytes, flags, next: random.below(size) })
  }
  const kind = random.below(64)
  if (kind === 0) queue.setAvailIdx(random.below(0x1_0000))
  else if (kind === 1) queue.offer(random.below(0x1_0000))
  else queue.offer(random.below(size))
}
