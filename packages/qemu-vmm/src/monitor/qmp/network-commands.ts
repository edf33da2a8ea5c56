import { netdevOf } from '../../cli/options/network.ts'
import { memberEntries } from '../../cli/options/network-settings.ts'
import type { CardFilter } from '../../net/config.ts'
import { netdevTypes } from '../../net/netdev-types.ts'
import type { QmpCommand } from './command.ts'
import { bool, int, listOf, membersOf, oneOf, str, struct } from './types.ts'
import type { QmpMembers, QmpObject, QmpType } from './types.ts'

/** Lists of texts, as these have them. */
const STRINGS = listOf(struct({ str }))
const RX_STATE = oneOf(['normal', 'none', 'all'])

/** `AnnounceParameters`. */
interface Announce {
  initial: number
  max: number
  rounds: number
  step: number
  interfaces?: string[]
  id?: string
}

function address(
  types: readonly string[],
  variants: Readonly<Record<string, QmpMembers>>,
): QmpObject {
  return { meta: 'object', members: membersOf({ type: oneOf(types) }), tag: 'type', variants }
}

const INET: QmpMembers = membersOf({ host: str, port: str })
const STREAM_ADDRESS = address(['inet', 'unix', 'fd'], {
  inet: INET,
  unix: membersOf({ path: str }),
  fd: membersOf({ str }),
})
const DGRAM_ADDRESS = address(['inet'], { inet: INET })

/** Members of each type of network. */
const VARIANTS: Readonly<Record<string, QmpMembers>> = {
  socket: membersOf({
    'listen?': str,
    'connect?': str,
    'mcast?': str,
    'localaddr?': str,
    'fd?': str,
    'udp?': str,
  }),
  stream: membersOf({ addr: STREAM_ADDRESS, 'server?': bool }),
  dgram: membersOf({ 'local?': DGRAM_ADDRESS, 'remote?': DGRAM_ADDRESS }),
  tap: membersOf({
    'ifname?': str,
    'fd?': str,
    'script?': str,
    'downscript?': str,
    'vhost?': bool,
  }),
  hubport: membersOf({ hubid: int, 'netdev?': str }),
  bridge: membersOf({ 'br?': str, 'helper?': str }),
  user: membersOf({
    ...optional(
      str,
      'hostname',
      'net',
      'host',
      'tftp',
      'bootfile',
      'dhcpstart',
      'dns',
      'domainname',
      'ipv6-prefix',
      'ipv6-host',
      'ipv6-dns',
      'tftp-server-name',
    ),
    ...optional(bool, 'restrict', 'ipv4', 'ipv6'),
    ...optional(STRINGS, 'dnssearch', 'hostfwd', 'guestfwd'),
    'ipv6-prefixlen?': int,
  }),
}

function optional(type: QmpType, ...names: readonly string[]): Record<string, QmpType> {
  return Object.fromEntries(names.map((name) => [`${name}?`, type]))
}

/** Commands for networks. */
export const NETWORK_COMMANDS: readonly QmpCommand[] = [
  {
    name: 'set_link',
    args: struct({ name: str, up: bool }),
    run: ({ machine }, { name, up }) =>
      machine.changeNetwork({ link: name as string, up: up as boolean }),
  },
  {
    name: 'netdev_add',
    args: {
      meta: 'object',
      members: membersOf({ type: oneOf(netdevTypes.map(({ name }) => name)), id: str }),
      tag: 'type',
      variants: VARIANTS,
    },
    run: ({ machine }, args) => machine.changeNetwork({ add: netdevOf(memberEntries(args)) }),
  },
  {
    name: 'netdev_del',
    args: struct({ id: str }),
    run: ({ machine }, { id }) => machine.changeNetwork({ remove: id as string }),
  },
  {
    name: 'announce-self',
    args: struct({
      initial: int,
      max: int,
      rounds: int,
      step: int,
      'interfaces?': listOf(str),
      'id?': str,
    }),
    run: ({ machine }, args) => {
      const { initial, max, rounds, step, interfaces, id } = args as unknown as Announce
      const cards = interfaces === undefined ? {} : { cards: interfaces }
      const announce = { initial, max, rounds, step, ...cards, ...(id !== undefined && { id }) }
      return machine.changeNetwork({ announce })
    },
  },
  {
    name: 'query-rx-filter',
    args: struct({ 'name?': str }),
    returns: listOf(
      struct({
        name: str,
        promiscuous: bool,
        multicast: RX_STATE,
        unicast: RX_STATE,
        vlan: RX_STATE,
        'broadcast-allowed': bool,
        'multicast-overflow': bool,
        'unicast-overflow': bool,
        'main-mac': str,
        'vlan-table': listOf(int),
        'unicast-table': listOf(str),
        'multicast-table': listOf(str),
      }),
    ),
    run: async ({ machine }, { name }) =>
      (await machine.rxFilters(name as string | undefined)).map(filterInfo),
  },
]

function filterInfo(filter: CardFilter): object {
  const { vlanTable } = filter
  const isSome = vlanTable !== undefined && vlanTable.length > 0
  return {
    name: filter.name,
    promiscuous: filter.promiscuous,
    multicast: filter.multicast,
    unicast: filter.unicast,
    vlan: vlanTable === undefined ? 'all' : isSome ? 'normal' : 'none',
    'broadcast-allowed': filter.broadcastAllowed,
    'multicast-overflow': filter.multicastOverflow,
    'unicast-overflow': filter.unicastOverflow,
    'main-mac': filter.mainMac,
    'vlan-table': vlanTable ?? [],
    'unicast-table': filter.unicastTable,
    'multicast-table': filter.multicastTable,
  }
}
