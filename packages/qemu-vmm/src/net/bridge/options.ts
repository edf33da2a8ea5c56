import { type NetOption, badOption, netOptions } from '../options.ts'
import { checkInterfaceName } from '../tap/options.ts'
import type { BridgeNetConfig } from './config.ts'

export const BRIDGE_KEYS: readonly string[] = ['br', 'helper']

/**
 * What options of `-netdev bridge` say.
 * @throws VmmError `E_NETDEV`
 */
export function parseBridgeOptions(id: string, options: readonly NetOption[]): BridgeNetConfig {
  const values = netOptions('bridge', options, BRIDGE_KEYS)
  const [br, helper] = [values.get('br'), values.get('helper')]
  if (br !== undefined) checkInterfaceName('br', br)
  if (helper !== undefined && !/^\/[^\s\0]*$/.test(helper)) {
    throw badOption(
      'helper',
      `Parameter 'helper' is '${helper}': the absolute path of a program without spaces; words behind it are not passed on`,
    )
  }
  return {
    type: 'bridge',
    id,
    ...(br === undefined ? {} : { br }),
    ...(helper === undefined ? {} : { helper }),
  }
}
