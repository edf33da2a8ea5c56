import { randomInt } from 'node:crypto'
import { refusal } from '../refuse.ts'
import type { DomainOptions } from '../options.ts'
import type { DomainDefinition, NetworkInterface } from '../generated/model.ts'

/** A random address in the range that QEMU and KVM have for themselves. */
export function randomMac(): string {
  // Unlike single bytes, numbers come from a store that is filled now and then.
  const digits = randomInt(1 << 24)
    .toString(16)
    .padStart(6, '0')
  return `52:54:00:${digits.slice(0, 2)}:${digits.slice(2, 4)}:${digits.slice(4)}`
}

/** Addresses, models and sources of all network cards. */
export function normaliseNetwork(def: DomainDefinition, options: DomainOptions): void {
  const taken = new Set<string>()
  const interfaces = def.devices?.interfaces ?? []
  for (const { mac } of interfaces) if (mac !== undefined) taken.add(mac.address)
  for (const card of interfaces) {
    card.mac ??= { address: newMac(taken, options) }
    normaliseSource(card)
    normaliseModel(card)
    forgetGeneratedName(card)
  }
}

function newMac(taken: Set<string>, { newMac = randomMac }: DomainOptions): string {
  for (let tries = 0; tries < 1000; tries++) {
    const address = newMac()
    if (taken.has(address)) continue
    taken.add(address)
    return address
  }
  throw new Error('newMac returns the same addresses again and again')
}

/** The attributes of a source that a card of each type has; the first is required. */
const sourceKeys: Readonly<Record<string, readonly string[]>> = {
  network: ['network', 'portgroup', 'portid'],
  bridge: ['bridge'],
  direct: ['dev', 'mode'],
  internal: ['name'],
  vdpa: ['dev'],
  vhostuser: ['path', 'type', 'mode', 'reconnect'],
  mcast: ['port', 'ip'],
  server: ['port', 'ip'],
  client: ['port', 'ip'],
  udp: ['port', 'ip', 'local'],
  hostdev: ['address'],
}

function normaliseSource(card: NetworkInterface): void {
  const { type, source } = card
  const [needed, ...more] = sourceKeys[type] ?? []
  if (needed !== undefined && Reflect.get(source ?? {}, needed) === undefined) {
    const attribute = needed === 'address' ? 'address' : `@${needed}`
    throw refusal(`is missing: a card of type "${type}" has source/${attribute}`, {
      at: source ?? card,
      below: source === undefined ? '/source' : `/${attribute}`,
    })
  }
  if (source === undefined || needed === undefined) return
  for (const key of Object.keys(source)) {
    const kept = key === needed || more.includes(key) || key.startsWith('unknown')
    // A running network says which bridge it has, and clients send that back.
    const ofRunning = type === 'network' && key === 'bridge'
    if (ofRunning) delete source.bridge
    else if (!kept) {
      throw refusal(`does not belong to a card of type "${type}"`, {
        at: source,
        below: `/@${key}`,
        value: String(Reflect.get(source, key)),
      })
    }
  }
  if (type === 'direct') source.mode ??= 'vepa'
}

function normaliseModel(card: NetworkInterface): void {
  if (card.type === 'hostdev') return
  const virtual = card.type === 'vhostuser' || card.type === 'vdpa'
  card.model ??= { type: virtual ? 'virtio' : 'rtl8139' }
  // Its settings are those of virtio; other cards have none.
  if (!card.model.type.startsWith('virtio')) delete card.driver
}

/** Names that the host makes up differ from start to start. */
function forgetGeneratedName({ type, target }: NetworkInterface): void {
  const generated = type === 'direct' ? /^macv(tap|lan)\d+$/ : /^vnet\d+$/
  if (target?.dev !== undefined && generated.test(target.dev)) delete target.dev
}
