import type { NetdevConfig } from '../../net/config.ts'
import { netdevTypes } from '../../net/netdev-types.ts'
import { CliError } from '../cli-error.ts'
import { parseKeyval } from '../keyval.ts'
import type { KeyvalEntry } from '../keyval.ts'
import { asksForHelp, isHelp } from '../option.ts'
import type { OptionGroup, OptionSpec } from '../option.ts'
import { defaultSettings } from '../settings.ts'
import type { Settings } from '../settings.ts'
import { checkId } from './chardev.ts'
import { legacyNet } from './legacy-net.ts'
import {
  addNetdev,
  freeId,
  jsonEntries,
  lastValue,
  nameList,
  typeList,
} from './network-settings.ts'
import { networkKeys } from './network-keys.ts'
import { NIC_KEYS, nicDevice, nicModels } from './nic-models.ts'

const netdev: OptionSpec = {
  name: 'netdev',
  argument: 'type,id=id[,key=value...]',
  repeatable: true,
  help: ["a network that cards are connected to ('-netdev help' lists the types)"],
  keys: [
    { name: 'type', value: typeList, help: 'the type' },
    { name: 'id', value: 'id', help: 'name of the network, required' },
    ...networkKeys,
  ],
  implied: 'type',
  apply(settings, value) {
    if (isHelp(value) || asksForHelp(value)) {
      return nameList('Available netdev backend types:', netdevTypes)
    }
    settings.networkChosen = true
    const isJson = value.startsWith('{')
    addFrom(settings, isJson ? jsonEntries(value) : parseKeyval(value, { implied: 'type' }))
    return undefined
  },
}

function addFrom(settings: Settings, entries: readonly KeyvalEntry[]): void {
  const id = lastValue(entries, 'id')
  if (id === undefined) throw new CliError("Parameter 'id' is missing")
  checkId(id)
  const options = entries.filter(({ key }) => key !== 'type' && key !== 'id')
  addNetdev(settings, lastValue(entries, 'type'), id, options)
}

/**
 * The network that a monitor's command describes, as `-netdev` does or by its entries.
 * @throws CliError
 */
export function netdevOf(from: string | readonly KeyvalEntry[]): NetdevConfig {
  const settings = defaultSettings()
  addFrom(settings, typeof from === 'string' ? parseKeyval(from, { implied: 'type' }) : from)
  return settings.netdevs[0]!
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
    ...NIC_KEYS,
    { name: 'id', value: 'id', help: 'name of the network' },
  ],
  implied: 'type',
  apply(settings, value) {
    if (isHelp(value)) {
      return nameList('Available netdev backend types:', [...netdevTypes, { name: 'none' }])
    }
    const entries = parseKeyval(value, { implied: 'type' })
    const model = lastValue(entries, 'model')
    if (model !== undefined && isHelp(model)) return nameList('Supported NIC models:', nicModels())
    settings.networkChosen = true
    const type = lastValue(entries, 'type')
    if (type === 'none') {
      const other = entries.find(({ key }) => key !== 'type')
      if (other === undefined) return undefined
      throw new CliError(`Parameter '${other.key}' has no meaning with type 'none'`)
    }
    const id = lastValue(entries, 'id') ?? freeId(settings, 'nic')
    checkId(id)
    const own = ['type', 'id', ...NIC_KEYS.map(({ name }) => name)]
    const options = entries.filter(({ key }) => !own.includes(key))
    addNetdev(settings, type, id, options)
    settings.nics.push(nicDevice(entries, id, settings.machine))
    return undefined
  },
}

export const network: OptionGroup = {
  title: 'Network',
  page: 'cli-network.md',
  options: [netdev, nic, legacyNet],
}
