import { CliError } from '../cli-error.ts'
import { parseKeyval } from '../keyval.ts'
import type { KeyvalEntry } from '../keyval.ts'
import { isHelp } from '../option.ts'
import type { OptionSpec } from '../option.ts'
import type { Settings } from '../settings.ts'
import { checkId } from './chardev.ts'
import { addNetdev, freeId, lastValue, nameList, typeList } from './network-settings.ts'
import { nicDevice, nicModels } from './nic-models.ts'

/** The hub that all of them are plugged into. */
const HUB = '0'
/** What `nic` takes. */
const CARD_KEYS = ['type', 'model', 'macaddr', 'addr', 'netdev']

/** `-net`, from before `-netdev`: cards and networks that are plugged into one hub. */
export const legacyNet: OptionSpec = {
  name: 'net',
  argument: 'nic[,model=card][,macaddr=addr][,addr=slot][,netdev=id]|type[,key=value...]|none',
  repeatable: true,
  help: [
    'a card or a network at hub 0, which connects all of them, or none',
    "('-net nic,model=help' lists the cards; -nic and -netdev have more)",
  ],
  keys: [
    { name: 'type', value: `nic|none|${typeList}`, help: 'a card, or the type of the network' },
    { name: 'model', value: 'card', help: 'nic: the card' },
    { name: 'macaddr', value: 'addr', help: 'nic: its address' },
    { name: 'addr', value: 'slot', help: 'nic: its PCI address' },
    { name: 'netdev', value: 'id', help: 'nic: the network that it is connected to, not the hub' },
    { name: 'id', value: 'id', help: 'name of the network' },
  ],
  implied: 'type',
  apply(settings, value) {
    const entries = parseKeyval(value, { implied: 'type' })
    const type = lastValue(entries, 'type')
    const model = lastValue(entries, 'model')
    if (type === 'nic' && model !== undefined && isHelp(model)) {
      return nameList('Supported NIC models:', nicModels())
    }
    settings.networkChosen = true
    if (type === 'none') checkNone(entries)
    else if (type === 'nic') addCard(settings, entries)
    else addNetwork(settings, type, entries)
    return undefined
  },
}

function checkNone(entries: readonly KeyvalEntry[]): void {
  const other = entries.find(({ key }) => key !== 'type')
  if (other === undefined) return
  throw new CliError(`Parameter '${other.key}' has no meaning with type 'none'`)
}

function addCard(settings: Settings, entries: readonly KeyvalEntry[]): void {
  const other = entries.find(({ key }) => !CARD_KEYS.includes(key))
  if (other !== undefined) throw new CliError(`Invalid parameter '${other.key}'`)
  const netdev = lastValue(entries, 'netdev') ?? addPort(settings)
  settings.nics.push(nicDevice(entries, netdev, settings.machine))
}

function addNetwork(
  settings: Settings,
  type: string | undefined,
  entries: readonly KeyvalEntry[],
): void {
  if (type === 'hubport') throw new CliError("a hubport is given by '-netdev hubport'")
  const id = lastValue(entries, 'id') ?? freeId(settings, `${type}.`)
  checkId(id)
  const options = entries.filter(({ key }) => key !== 'type' && key !== 'id')
  addNetdev(settings, type, id, options)
  addPort(settings, id)
}

/** A port of the hub for a card, or for a network. */
function addPort(settings: Settings, netdev?: string): string {
  const id = freeId(settings, `hub${HUB}port`)
  const place = netdev === undefined ? [] : [{ key: 'netdev', value: netdev }]
  addNetdev(settings, 'hubport', id, [{ key: 'hubid', value: HUB }, ...place])
  return id
}
