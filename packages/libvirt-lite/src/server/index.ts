import type { Handlers } from '../rpc/index.ts'
import { absentHandlers } from './absent.ts'
import { blockHandlers } from './block.ts'
import { connectionHandlers } from './connection.ts'
import type { ServerContext } from './context.ts'
import { deviceHandlers } from './device.ts'
import { domainHandlers } from './domain.ts'
import { bandwidthHandlers } from './bandwidth.ts'
import { eventHandlers } from './events.ts'
import { guestAgentHandlers } from './guest-agent.ts'
import { lifecycleHandlers } from './lifecycle.ts'
import { memoryHandlers } from './memory.ts'
import { metadataHandlers } from './metadata.ts'
import { networkHandlers } from './network.ts'
import { pinningHandlers } from './pinning.ts'
import { screenHandlers } from './screen.ts'
import { storagePoolHandlers } from './storage-pool.ts'
import { storageVolumeHandlers } from './storage-volume.ts'
import { statisticsHandlers } from './statistics.ts'
import { tuningHandlers } from './tuning.ts'
import { vcpuHandlers } from './vcpus.ts'

/** What answers the calls of clients. */
export function serverHandlers(context: ServerContext): Handlers {
  return {
    ...connectionHandlers(context),
    ...absentHandlers(),
    ...domainHandlers(context),
    ...lifecycleHandlers(context),
    ...deviceHandlers(context),
    ...memoryHandlers(context),
    ...tuningHandlers(context),
    ...bandwidthHandlers(context),
    ...vcpuHandlers(context),
    ...pinningHandlers(context),
    ...blockHandlers(context),
    ...metadataHandlers(context),
    ...screenHandlers(context),
    ...guestAgentHandlers(context),
    ...statisticsHandlers(context),
    ...networkHandlers(context.stateDir),
    ...storagePoolHandlers(context.pools),
    ...storageVolumeHandlers(context.pools, {
      imageCommand: context.imageCommand,
      isUsed: (path) => context.domains.usesDisk(path),
    }),
    ...eventHandlers(context.events, context.pools),
  }
}
