import type { Domain } from './domain.ts'
import type { DomainDefinition } from './model.ts'

/**
 * The guest has set its clock. A clock of its own (`<clock offset='variable'>`) was given to the emulator as a time, so what
 * is told is the difference to that: with what it began with, it is what the clock has to be ahead by from now on.
 */
export function clockChanged(domain: Domain, seconds: unknown): void {
  if (!Number.isSafeInteger(seconds)) return
  const { live } = domain
  let offset = seconds as number
  if (live?.clock?.offset === 'variable') {
    offset += domain.machine.clockStart
    const clock = { ...live.clock, adjustment: `${offset}` }
    domain.running({ ...live, clock } as DomainDefinition)
  }
  domain.tell({ kind: 'clock', offset: BigInt(offset) })
}
