import type { DeviceOption } from '../../devices/device-type.ts'
import { deviceTypes } from '../../devices/registry.ts'
import { CliError } from '../cli-error.ts'
import type { KeyvalEntry } from '../keyval.ts'
import type { KeySpec } from '../option.ts'
import { hint } from '../suggest.ts'

/** The card that machines have where none is named. QEMU's `q35` has an e1000e there. */
export const DEFAULT_MODEL = 'e1000'
/** What options that plug in a card have for it. */
export const NIC_KEYS: readonly KeySpec[] = [
  { name: 'model', value: 'card', help: `the card (default: ${DEFAULT_MODEL})` },
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
 * The card that an option describes, connected to a network.
 * @throws CliError for a model that there is not
 */
export function nicDevice(entries: readonly KeyvalEntry[], netdev: string): DeviceOption {
  const last = (key: string): string | undefined =>
    entries.findLast((entry) => entry.key === key)?.value
  const [mac, addr] = [last('mac') ?? last('macaddr'), last('addr')]
  return {
    driver: driverOf(last('model') ?? DEFAULT_MODEL),
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
