import type { NetworkInterface, OptionRom } from '../generated/model.ts'
import type { AnyDevice } from '../devices.ts'
import { addThrottles } from './bandwidth.ts'
import { notYet, only } from './command.ts'
import type { Command, Keys } from './command.ts'

const defaultNetworks: ReadonlySet<string> = new Set(['default'])

/** Drivers of cards by the model in a document. */
const drivers: Readonly<Record<string, string>> = {
  virtio: 'virtio-net-pci',
  'virtio-transitional': 'virtio-net-pci-transitional',
  'virtio-non-transitional': 'virtio-net-pci-non-transitional',
}

/** Models that are named where another one is not there. */
const CARDS = ['virtio', 'e1000', 'rtl8139', 'e1000e'] as const

/** Adds network cards and what they are connected to. */
export function addNetwork(command: Command, boot: ReadonlyMap<AnyDevice, number>): void {
  for (const [index, card] of (command.def.devices?.interfaces ?? []).entries()) {
    addCard(command, card, `/domain/devices/interface[${index + 1}]`, boot.get(card))
  }
}

/** Adds one card, and the network behind it. */
export function addCard(
  command: Command,
  card: NetworkInterface,
  path: string,
  bootindex?: number,
): void {
  only(card, path, handled)
  const id = `host${card.alias?.name ?? ''}`
  command.addKeys('-netdev', 'user', { id, ...userNetwork(command, card, path) })
  addThrottles(command, card, path)
  const model = card.model?.type ?? 'rtl8139'
  const { driver } = card
  only(driver, `${path}/driver`, ['name', 'rxQueueSize', 'txQueueSize'])
  const driverName = drivers[model] ?? model
  if (!command.has(driverName)) {
    const there = CARDS.filter((known) => command.has(drivers[known] ?? known))
    throw notYet(
      `${path}/model/@type`,
      `${command.result.program} has no card "${model}", expected one of ${there.join(', ')}`,
    )
  }
  command.addDevice(driverName, path, card, {
    netdev: id,
    mac: card.mac?.address,
    bootindex,
    rx_queue_size: driver?.rxQueueSize,
    tx_queue_size: driver?.txQueueSize,
    host_mtu: card.mtu?.size,
    ...optionRom(card.rom),
  })
}

/** An empty name is none. */
function optionRom({ enabled, bar, file }: OptionRom = {}): Keys {
  if (enabled === false) return { romfile: '' }
  return { rombar: bar === undefined ? undefined : bar ? 1 : 0, romfile: file }
}

const handled = [
  'type',
  'mac',
  'source',
  'model',
  'driver',
  'mtu',
  'rom',
  'boot',
  'alias',
  'address',
  'bandwidth',
  'ips',
  // Whoever starts the emulator pulls the cable out of those that are down.
  'link',
  // An empty one is what is left of a name that the host had made up.
  'target',
]

function userNetwork(command: Command, card: NetworkInterface, path: string): Keys {
  const { type, source, target, ips = [] } = card
  const networks = command.options.userNetworks ?? defaultNetworks
  if (type !== 'user' && !(type === 'network' && networks.has(source?.network ?? ''))) {
    throw notYet(
      type === 'network' ? `${path}/source/@network` : `${path}/@type`,
      `cards are connected to the user-mode network only, which is type "user" or the network ` +
        `${[...networks].map((name) => `"${name}"`).join(', ')}`,
    )
  }
  if (target?.dev !== undefined) {
    throw notYet(`${path}/target/@dev`, 'a user-mode network has no device of the host')
  }
  if (ips.length > 0 && type !== 'user')
    throw notYet(`${path}/ip`, 'expected a card of type "user"')
  const keys: Record<string, string> = {}
  for (const { address, family = 'ipv4', prefix } of ips) {
    if (family === 'ipv4') keys['net'] = `${address}/${prefix ?? 24}`
    else keys['ipv6-net'] = `${address}/${prefix ?? 64}`
  }
  return keys
}
