import type { HubPortConfig } from './config.ts'
import { type NetOption, badOption, netOptions } from './options.ts'

export const HUB_KEYS: readonly string[] = ['hubid', 'netdev']
const MOST_HUBS = 0x7fff_ffff

/**
 * What options of `-netdev hubport` say.
 * @throws VmmError `E_NETDEV`
 */
export function parseHubOptions(id: string, options: readonly NetOption[]): HubPortConfig {
  const values = netOptions('hubport', options, HUB_KEYS)
  const text = values.get('hubid')
  if (text === undefined) throw badOption('hubid', "Parameter 'hubid' is missing")
  const hub = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN
  if (!(hub <= MOST_HUBS)) {
    throw badOption('hubid', `Parameter 'hubid' is '${text}': it is a number up to ${MOST_HUBS}`)
  }
  const netdev = values.get('netdev')
  return { type: 'hubport', id, hub, ...(netdev === undefined ? {} : { netdev }) }
}
