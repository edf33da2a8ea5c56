import { invalid } from '../driver/domain.ts'
import type { Domain } from '../driver/domain.ts'
import type { DomainDefinition } from '../driver/model.ts'

/** Flags of `virDomainModificationImpact`. */
export const IMPACT = { LIVE: 1, CONFIG: 2 } as const
export const IMPACT_FLAGS = 3

/** What a change is for: what runs, what it starts from the next time, or both. */
export interface Impact {
  isLive: boolean
  isConfig: boolean
}

/** Without flags, a change is for what runs if it runs. @throws VirtError for what there is not */
export function impactOf(domain: Domain, flags: number): Impact {
  const isCurrent = (flags & IMPACT_FLAGS) === 0
  const isLive = isCurrent ? domain.isActive : (flags & IMPACT.LIVE) !== 0
  const isConfig = isCurrent ? !domain.isActive : (flags & IMPACT.CONFIG) !== 0
  if (isLive && !domain.isActive) throw invalid('domain is not running')
  if (isConfig && !domain.isPersistent) {
    throw invalid('transient domains do not have any persistent config')
  }
  return { isLive, isConfig }
}

/** The definition that a question is about. @throws VirtError for what there is not */
export function definitionFor(domain: Domain, flags: number): DomainDefinition {
  const { isLive } = impactOf(domain, flags)
  return (isLive ? domain.live : domain.definition)!
}
