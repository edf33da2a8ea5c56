import type { Handlers } from '../rpc/index.ts'
import { connectionHandlers } from './connection.ts'
import type { ServerContext } from './context.ts'
import { domainHandlers } from './domain.ts'
import { eventHandlers } from './events.ts'
import { lifecycleHandlers } from './lifecycle.ts'
import { networkHandlers } from './network.ts'
import { storagePoolHandlers } from './storage-pool.ts'
import { storageVolumeHandlers } from './storage-volume.ts'
import { statisticsHandlers } from './statistics.ts'

/** What answers the calls of clients. */
export function serverHandlers(context: ServerContext): Handlers {
  return {
    ...connectionHandlers(context),
    ...domainHandlers(context),
    ...lifecycleHandlers(context),
    ...statisticsHandlers(context),
    ...networkHandlers(context.stateDir),
    ...storagePoolHandlers(context.pools),
    ...storageVolumeHandlers(context.pools, {
      imageCommand: context.imageCommand,
      isUsed: (path) => context.domains.usesDisk(path),
    }),
    ...eventHandlers(context.events),
  }
}
