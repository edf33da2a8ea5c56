import type { ControlGroups } from '../driver/control-groups/groups.ts'
import type { Domains } from '../driver/domains.ts'
import type { Pools } from '../storage/pools.ts'
import type { Events } from './events.ts'

/** What the handlers of calls work on. */
export interface ServerContext {
  readonly domains: Domains
  readonly events: Events
  readonly pools: Pools
  readonly groups: ControlGroups
  /** The command that makes images, where there is one. */
  readonly imageCommand: string | undefined
  /** The emulator of domains that name none. */
  readonly emulator: string
  /** Folder of everything that is kept. */
  readonly stateDir: string
  /** The URI that clients may open beside `qemu:///system` and `qemu:///session`: of this user. */
  readonly uri: string
}
