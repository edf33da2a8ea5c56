import { deviceTypes } from '../../devices/registry.ts'
import { VmmError } from '../../errors.ts'
import type { NetdevConfig } from '../../net/config.ts'
import { netdevTypes } from '../../net/netdev-types.ts'
import type { NetdevType } from '../../net/netdev-types.ts'
import { CliError } from '../cli-error.ts'
import { parseKeyval } from '../keyval.ts'
import type { KeyvalEntry } from '../keyval.ts'
import { asksForHelp, isHelp } from '../option.ts'
import type { KeySpec, OptionGroup, OptionSpec } from '../option.ts'
import type { Settings } from '../settings.ts'
import { hint } from '../suggest.ts'
import { checkId } from './chardev.ts'

/** The card that `-nic` plugs in where it names no other. */
const DEFAULT_MODEL = 'virtio-net-pci'
/** What `-nic` has for the card; all else is the network's. */
const NIC_KEYS = ['model', 'mac', 'addr'] as const
/** QEMU's names of cards that are others here. */
const MODEL_ALIASES: Readonly<Record<string, string>> = { virtio: 'virtio-net-pci' }

const typeList = netdevTypes.map(({ name }) => name).join('|')
const userKeys: readonly KeySpec[] = [
  { name: 'net', value: 'addr/length', help: 'user: the network (default: 10.0.2.0/24)' },
  { name: 'host', value: 'addr', help: 'user: the router, which is the host (default: net + 2)' },
  { name: 'dns', value: 'addr', help: 'user: the name server (default: net + 3)' },
  { name: 'dhcpstart', value: 'addr', help: 'user: the first address given (default: net + 15)' },
  { name: 'restrict', value: 'on|off', help: 'user: nothing but what is forwarded' },
  {
    name: 'hostfwd',
    value: 'proto:[addr]:port-[addr]:port',
    help: 'user: a port of the host that leads into the guest; may come again',
  },
  {
    name: 'guestfwd',
    value: 'tcp:addr:port-to',
    help: "user: a server in the guest's network that is elsewhere; may come again",
  },
  { name: 'hostname', value: 'name', help: 'user: what DHCP calls the guest' },
  { name: 'domainname', value: 'name', help: 'user: the domain that DHCP tells' },
  { name: 'dnssearch', value: 'domain', help: 'user: where names are searched; may come again' },
  { name: 'tftp', value: 'folder', help: 'user: files that TFTP gives' },
  { name: 'tftp-server-name', value: 'name', help: 'user: what DHCP calls the TFTP server' },
  { name: 'bootfile', value: 'file', help: 'user: what DHCP says to boot' },
  { name: 'ipv4', value: 'on|off', help: 'user: IPv4' },
  { name: 'ipv6', value: 'on|off', help: 'user: IPv6' },
  {
    name: 'ipv6-net',
    value: 'addr/length',
    help: 'user: the network of IPv6 (default: fec0::/64)',
  },
  { name: 'ipv6-prefix', value: 'addr', help: 'user: the same without its length' },
  { name: 'ipv6-prefixlen', value: 'number', help: 'user: its length' },
  { name: 'ipv6-host', value: 'addr', help: 'user: the router of IPv6' },
  { name: 'ipv6-dns', value: 'addr', help: 'user: the name server of IPv6' },
]

const netdev: OptionSpec = {
  name: 'netdev',
  argument: 'type,id=id[,key=value...]',
  repeatable: true,
  help: ["a network that cards are connected to ('-netdev help' lists the types)"],
  keys: [
    { name: 'type', value: typeList, help: 'the type' },
    { name: 'id', value: 'id', help: 'name of the network, required' },
    ...userKeys,
  ],
  implied: 'type',
  apply(settings, value) {
    if (isHelp(value) || asksForHelp(value))
      return list('Available netdev backend types:', netdevTypes)
    const entries = parseKeyval(value, { implied: 'type' })
    const id = last(entries, 'id')
    if (id === undefined) throw new CliError("Parameter 'id' is missing")
    checkId(id)
    const options = entries.filter(({ key }) => key !== 'type' && key !== 'id')
    settings.netdevs.push(describe(settings, entries, id, options))
    return undefined
  },
}

const nic: OptionSpec = {
  name: 'nic',
  argument: 'type[,model=card][,mac=addr][,key=value...]|none',
  repeatable: true,
  help: [
    'a network with a card that is connected to it, or none',
    "('-nic model=help' lists the cards)",
  ],
  keys: [
    { name: 'type', value: `${typeList}|none`, help: 'the type of the network' },
    { name: 'model', value: 'card', help: `the card (default: ${DEFAULT_MODEL})` },
    { name: 'mac', value: 'addr', help: 'its address' },
    { name: 'addr', value: 'slot', help: 'its PCI address' },
    { name: 'id', value: 'id', help: 'name of the network' },
  ],
  implied: 'type',
  apply(settings, value) {
    if (isHelp(value)) return list('Available netdev backend types:', [...netdevTypes, NONE])
    const entries = parseKeyval(value, { implied: 'type' })
    const model = last(entries, 'model')
    if (model !== undefined && isHelp(model)) return list('Available NIC models:', cards())
    if (last(entries, 'type') === 'none') {
      const other = entries.find(({ key }) => key !== 'type')
      if (other === undefined) return undefined
      throw new CliError(`Parameter '${other.key}' has no meaning with type 'none'`)
    }
    const id = last(entries, 'id') ?? freeId(settings)
    checkId(id)
    const isOwn = (key: string): boolean => NIC_KEYS.some((known) => known === key)
    const options = entries.filter(({ key }) => key !== 'type' && key !== 'id' && !isOwn(key))
    settings.netdevs.push(describe(settings, entries, id, options))
    settings.nics.push({
      driver: card(model ?? DEFAULT_MODEL),
      properties: {
        netdev: id,
        ...property('mac', last(entries, 'mac')),
        ...property('addr', last(entries, 'addr')),
      },
    })
    return undefined
  },
}

const NONE = { name: 'none' }

export const network: OptionGroup = { title: 'Network', options: [netdev, nic] }

function list(title: string, items: readonly { name: string }[]): string {
  return [title, ...items.map(({ name }) => name)].join('\n')
}

function last(entries: readonly KeyvalEntry[], key: string): string | undefined {
  return entries.findLast((entry) => entry.key === key)?.value
}

function property(key: string, value: string | undefined): Record<string, string> {
  return value === undefined ? {} : { [key]: value }
}

function cards(): { name: string }[] {
  return deviceTypes.filter(({ category }) => category === 'Network devices')
}

function card(model: string): string {
  const name = MODEL_ALIASES[model] ?? model
  const known = cards().map((type) => type.name)
  if (known.includes(name)) return name
  throw new CliError(`Unsupported NIC model: ${model}${hint(model, known)}`)
}

function describe(
  settings: Settings,
  entries: readonly KeyvalEntry[],
  id: string,
  options: readonly KeyvalEntry[],
): NetdevConfig {
  const type = typeOf(last(entries, 'type'))
  if (settings.netdevs.some((other) => other.id === id)) {
    throw new CliError(`Duplicate ID '${id}' for netdev`)
  }
  try {
    return type.parse(id, options)
  } catch (error) {
    if (error instanceof VmmError) throw new CliError(error.message)
    throw error
  }
}

function typeOf(name: string | undefined): NetdevType {
  if (name === undefined) throw new CliError("Parameter 'type' is missing")
  const found = netdevTypes.find((type) => type.name === name)
  if (found !== undefined) return found
  const known = netdevTypes.map((type) => type.name)
  throw new CliError(`Parameter 'type' does not accept value '${name}'${hint(name, known)}`)
}

/** As QEMU numbers networks that have no name. */
function freeId(settings: Settings): string {
  for (let n = 0; ; n++) {
    const id = `nic${n}`
    if (!settings.netdevs.some((other) => other.id === id)) return id
  }
}
