import type { DeviceOption } from '../../devices/device-type.ts'
import { deviceTypes } from '../../devices/registry.ts'
import { machineKind } from '../../machine/machine-type.ts'
import { CliError } from '../cli-error.ts'
import type { KeyvalEntry } from '../keyval.ts'
import type { KeySpec } from '../option.ts'
import type { Settings } from '../settings.ts'
import { hint } from '../suggest.ts'

/** The card that a machine has where none is named, as in QEMU. */
function defaultModel(machine: Settings['machine']): string {
  const isQ35 = machine !== 'none' && machineKind({ type: machine }).board === 'q35'
  return isQ35 ? 'e1000e' : 'e1000'
}

/** What options that plug in a card have for it. */
export const NIC_KEYS: readonly KeySpec[] = [
  { name: 'model', value: 'card', help: 'the card (default: e1000, on q35 e1000e)' },
  { name: 'mac', value: 'addr', help: 'its address' },
  { name: 'addr', value: 'slot', help: 'its PCI address' },
]
/** QEMU's names of cards that are others here. */
const MODEL_ALIASES: Readonly<Record<string, string>> = {
  virtio: 'virtio-net-pci',
  'virtio-net': 'virtio-net-pci',
  'e1000-82540em': 'e1000',
}

export function nicModels(): { name: string }[] {
  return deviceTypes
    .filter(({ category }) => category === 'Network devices')
    .toSorted((a, b) => (a.name < b.name ? -1 : 1))
}

/**
 * The card that an option describes, connected to a network of a machine.
 * @throws CliError for a model that there is not
 */
export function nicDevice(
  entries: readonly KeyvalEntry[],
  netdev: string,
  machine: Settings['machine'],
): DeviceOption {
  const last = (key: string): string | undefined =>
    entries.findLast((entry) => entry.key === key)?.value
  const [mac, addr] = [last('mac') ?? last('macaddr'), last('addr')]
  return {
    driver: driverOf(last('model') ?? defaultModel(machine)),
    properties: {
      netdev,
      ...(mac === undefined ? {} : { mac }),
      ...(addr === undefined ? {} : { addr }),
    },
  }
}

function driverOf(model: string): string {
  const name = MODEL_ALIASES[model] ?? model
  const known = nicModels().map((type) => type.name)
  if (known.includes(name)) return name
  throw new CliError(`Unsupported NIC model: ${model}${hint(model, known)}`)
}
