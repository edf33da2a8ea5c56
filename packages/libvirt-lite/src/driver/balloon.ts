import type { Machine } from './machine.ts'
import type { DomainFacts } from './model.ts'

/** Has a guest that is to have less than it could told so before it runs. @returns KiB that it has now */
export async function applyBalloon(
  machine: Machine,
  { currentMemoryKib, memoryKib }: DomainFacts,
): Promise<number | undefined> {
  if (currentMemoryKib < memoryKib) {
    // Without a balloon the guest has all of it.
    await machine.execute('balloon', { value: currentMemoryKib * 1024 }).catch(() => undefined)
  }
  return askBalloon(machine)
}

/** @returns KiB that the guest has, or undefined without a balloon */
export async function askBalloon(machine: Machine): Promise<number | undefined> {
  const answer = await machine.execute('query-balloon').catch(() => undefined)
  const actual = (answer as { actual?: unknown } | undefined)?.actual
  return typeof actual === 'number' ? Math.floor(actual / 1024) : undefined
}
