import { netdevOf } from '../cli/options/network.ts'
import { DEFAULT_ANNOUNCEMENT } from '../net/announce.ts'
import type { NetworkInfo } from '../net/config.ts'
import { parseForwardPlace, parseHostForward } from '../net/user/forwards.ts'
import { MonitorError } from './command.ts'
import type { MonitorCommand } from './command.ts'

/** Commands for networks of a machine that runs. */
export const NETWORK_COMMANDS: readonly MonitorCommand[] = [
  {
    name: 'hostfwd_add',
    params: '[netdev_id] [tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport',
    help: 'have a port of the host lead to the guest',
    maxArgs: 2,
    run: async ({ machine }, args) => {
      const { rule, netdev } = forwardWords(args)
      await machine.changeNetwork({ forward: { add: parseHostForward(rule) }, ...netdev })
      return ''
    },
  },
  {
    name: 'hostfwd_remove',
    params: '[netdev_id] [tcp|udp]:[hostaddr]:hostport',
    help: 'have it lead there no longer',
    maxArgs: 2,
    run: async ({ machine }, args) => {
      const { rule, netdev } = forwardWords(args)
      await machine.changeNetwork({ forward: { remove: parseForwardPlace(rule) }, ...netdev })
      return `host forwarding rule for ${rule} removed\n`
    },
  },
  {
    name: 'netdev_add',
    params: 'type,id=str[,prop=value][,...]',
    help: 'add a network, as -netdev does',
    maxArgs: Number.POSITIVE_INFINITY,
    run: async ({ machine }, args) => {
      const text = args.join(' ')
      if (text === '') throw new MonitorError('netdev: string expected')
      await machine.changeNetwork({ add: netdevOf(text) })
      return ''
    },
  },
  {
    name: 'netdev_del',
    params: 'id',
    help: 'remove a network',
    maxArgs: 1,
    run: async ({ machine }, [id]) => {
      if (id === undefined) throw new MonitorError('id: string expected')
      await machine.changeNetwork({ remove: id })
      return ''
    },
  },
]

/** What changes the link of a card. */
export const LINK_COMMANDS: readonly MonitorCommand[] = [
  {
    name: 'set_link',
    params: 'name on|off',
    help: 'put the cable of a network or a card in, or pull it out',
    maxArgs: 2,
    run: async ({ machine }, [name, state]) => {
      if (name === undefined) throw new MonitorError('name: string expected')
      if (state !== 'on' && state !== 'off') throw new MonitorError("Expected 'on' or 'off'")
      await machine.changeNetwork({ link: name, up: state === 'on' })
      return ''
    },
  },
  {
    name: 'announce_self',
    params: '[interfaces] [id]',
    help: 'have cards tell the network where they are, as after a move',
    maxArgs: 2,
    run: async ({ machine }, [interfaces, id]) => {
      const cards = interfaces === undefined ? {} : { cards: interfaces.split(',') }
      const named = id === undefined ? {} : { id }
      await machine.changeNetwork({ announce: { ...DEFAULT_ANNOUNCEMENT, ...cards, ...named } })
      return ''
    },
  },
]

/** `info network`: hubs with what is at their ports, then cards with their networks below them. */
export function networkLines(networks: readonly NetworkInfo[]): string[] {
  const byId = new Map(networks.map((network) => [network.id, network]))
  const hubs = [...new Set(networks.flatMap(({ hub }) => hub ?? []))].toSorted((a, b) => a - b)
  const atPorts = new Set(networks.map(({ netdev }) => netdev))
  const lines: string[] = []
  for (const hub of hubs) {
    lines.push(`hub ${hub}`)
    for (const port of networks) {
      if (port.hub !== hub) continue
      const network = byId.get(port.netdev ?? '')
      const what = network === undefined ? port.card && cardLine(port.card) : networkLine(network)
      lines.push(` \\ ${port.id}${what === undefined ? '' : `: ${what}`}`)
    }
  }
  for (const network of networks) {
    if (network.hub !== undefined || atPorts.has(network.id)) continue
    const { card } = network
    if (card === undefined) lines.push(networkLine(network))
    else lines.push(cardLine(card), ` \\ ${networkLine(network)}`)
  }
  return lines
}

function networkLine({ id, type, detail }: NetworkInfo): string {
  return `${id}: index=0,type=${type === 'bridge' ? 'tap' : type},${detail}`
}

function cardLine({ name, model, mac }: NonNullable<NetworkInfo['card']>): string {
  return `${name}: index=0,type=nic,model=${model},macaddr=${mac}`
}

/** A rule, and in front of it perhaps the name of a network. */
function forwardWords(args: readonly string[]): { rule: string; netdev: { netdev?: string } } {
  const [first, second] = args
  if (first === undefined) throw new MonitorError('string expected')
  return second === undefined
    ? { rule: first, netdev: {} }
    : { rule: second, netdev: { netdev: first } }
}
