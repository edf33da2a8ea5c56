import { addUpTo, has } from '../normalise/controllers.ts'
import { refusal } from '../refuse.ts'
import type { DomainDefinition } from '../generated/model.ts'

/** Ports that a controller has when it does not say. */
const defaultPorts = 31

/** Gives channels a port of a virtio-serial controller, and adds the controllers. */
export function assignVirtioSerial(def: DomainDefinition): void {
  const { devices } = def
  const channels = (devices?.channels ?? []).filter(({ target }) => target?.type === 'virtio')
  const consoles = (devices?.consoles ?? []).filter(({ target }) => target?.type === 'virtio')
  const ports = [...channels, ...consoles]
  if (ports.length === 0 && !(devices?.smartcards ?? []).length) return
  const highest = ports.map(({ address }) =>
    address?.type === 'virtio-serial' ? (address.controller ?? 0) : 0,
  )
  if (ports.length > 0) addUpTo(def, 'virtio-serial', Math.max(...highest))

  const taken = new Map<string, string>()
  const key = (controller: number, port: number) => `${controller}.${port}`
  for (const device of ports) {
    const { address } = device
    if (address === undefined) continue
    if (address.type !== 'virtio-serial') {
      throw refusal('a port of virtio has an address of type "virtio-serial"', {
        at: address,
        below: '/@type',
        value: address.type,
      })
    }
    address.controller ??= 0
    address.bus ??= 0
    const { port = 0 } = address
    // Port 0 is the console's; a channel with it is given another.
    if (port === 0) continue
    const place = key(address.controller, port)
    if (taken.has(place)) {
      throw refusal('another device has the same port', {
        at: address,
        below: '/@port',
        value: port,
      })
    }
    taken.set(place, place)
  }
  for (const device of channels) {
    const { address } = device
    if (address?.type === 'virtio-serial' && (address.port ?? 0) > 0) continue
    const controller = address?.type === 'virtio-serial' ? (address.controller ?? 0) : undefined
    const place = nextPort(def, taken, controller)
    device.address = { ...address, type: 'virtio-serial', bus: 0, ...place }
    taken.set(key(place.controller, place.port), '')
  }
}

function nextPort(
  def: DomainDefinition,
  taken: ReadonlyMap<string, string>,
  only: number | undefined,
): { controller: number; port: number } {
  for (let controller = only ?? 0; ; controller++) {
    if (!has(def, 'virtio-serial', controller)) addUpTo(def, 'virtio-serial', controller)
    const most = portsOf(def, controller)
    for (let port = 1; port < most; port++) {
      if (!taken.has(`${controller}.${port}`)) return { controller, port }
    }
    if (only !== undefined) {
      throw refusal(`the virtio-serial controller ${only} has no free port`, { at: def })
    }
  }
}

function portsOf({ devices }: DomainDefinition, index: number): number {
  const found = devices?.controllers?.find(
    (controller) => controller.type === 'virtio-serial' && controller.index === index,
  )
  return found?.ports ?? defaultPorts
}
