import type { FilterBufferConfig, FilterThrottleConfig } from '../objects/config.ts'
import { FilterBuffer } from './filter-buffer.ts'
import { FilterThrottle } from './filter-throttle.ts'
import type { GatedNetworks } from './netdevs.ts'
import type { NetworkFilter } from './network-filter.ts'

export type NetworkFilterConfig = FilterBufferConfig | FilterThrottleConfig

/** @throws VmmError `E_CONFIG` for values that cannot be, `E_NETDEV` when there is no such network */
export function openFilter(config: NetworkFilterConfig, networks: GatedNetworks): NetworkFilter {
  return config.type === 'filter-buffer'
    ? new FilterBuffer(config, networks)
    : new FilterThrottle(config, networks)
}
