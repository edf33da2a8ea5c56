import type { ControlGroups } from './control-groups/groups.ts'
import type { Domain } from './domain.ts'
import type { DomainFacts } from './model.ts'
import type { Notice } from './notice.ts'

/** What a domain needs of the driver it belongs to. */
export interface DomainHost {
  /** Folder of what runs. */
  run: string
  /** Folder of variables of firmware. */
  nvram: string
  logFile(name: string): string
  groups: ControlGroups
  nextId(): number
  lifecycle(domain: Domain, event: number, detail: number): void
  rebooted(domain: Domain): void
  notice(domain: Domain, notice: Notice): void
  /** Told of what goes wrong without anybody's asking. */
  warn(message: string): void
  /** It is neither defined nor running any more. */
  gone(domain: Domain): void
  /** Throws for what a domain must not be started with now. */
  check(domain: Domain, facts: DomainFacts): void
}
