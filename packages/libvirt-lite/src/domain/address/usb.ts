import { refusal, unsupported } from '../refuse.ts'
import { controllersOf } from '../normalise/controllers.ts'
import type { Controller, DeviceAddress, DomainDefinition } from '../generated/model.ts'

interface UsbDevice {
  address?: DeviceAddress
}

/** Ports of a hub. */
const hubPorts = 8

/** Ports of controllers, by model. */
const rootPorts: Readonly<Record<string, number>> = {
  'piix3-uhci': 2,
  'piix4-uhci': 2,
  'vt82c686b-uhci': 2,
  'pci-ohci': 3,
  ehci: 6,
  'ich9-ehci1': 6,
  'nec-xhci': 4,
  'qemu-xhci': 4,
}

/** Companions have ports of their own only when they are not parts of a USB 2 controller. */
const companion: Readonly<Record<string, number>> = {
  'ich9-uhci1': 2,
  'ich9-uhci2': 2,
  'ich9-uhci3': 2,
}

/** Everything at USB but hubs, in the order in which ports are given. */
function usbDevices({ devices }: DomainDefinition): UsbDevice[] {
  return [
    ...(devices?.hostdevs ?? []).filter(({ type }) => type === 'usb'),
    ...(devices?.disks ?? []).filter(({ target }) => target?.bus === 'usb'),
    ...(devices?.controllers ?? []).filter(({ type }) => type === 'ccid'),
    ...(devices?.inputs ?? []).filter(({ bus }) => bus === 'usb'),
    ...(devices?.serials ?? []).filter(({ target }) => target?.type === 'usb-serial'),
    ...(devices?.sounds ?? []).filter(({ model }) => model === 'usb'),
    ...(devices?.redirdevs ?? []).filter(({ bus }) => bus === 'usb'),
    ...(devices?.interfaces ?? []).filter(({ model }) => model?.type === 'usb-net'),
  ]
}

/** Gives USB devices their ports, and adds hubs when there are more devices than ports. */
export function assignUsb(def: DomainDefinition): void {
  const devices = usbDevices(def)
  const hubs = (def.devices?.hubs ?? []).filter(({ type }) => type === 'usb')
  if (devices.length === 0 && hubs.length === 0) return
  const controllers = controllersOf(def).filter(({ type }) => type === 'usb')
  if (!controllers.some(({ model }) => model !== 'none')) {
    throw unsupported('there is a USB device, but the USB controller is "none"', {
      at: devices[0] ?? hubs[0],
    })
  }
  const buses = rootBuses(controllers)
  const rootCount = [...buses.values()].reduce((sum, ports) => sum + ports.length, 0)
  const available = rootCount + hubs.length * (hubPorts - 1)
  if (devices.length > available) {
    const more = Math.ceil((devices.length - available + 1) / (hubPorts - 1))
    for (let i = 0; i < more; i++) {
      const hub = { type: 'usb' as const }
      hubs.push(hub)
      ;(def.devices ??= {}).hubs = [...(def.devices.hubs ?? []), hub]
    }
  }
  const taken = new Set<string>()
  for (const device of [...hubs, ...devices]) reserve(device, taken)
  for (const hub of hubs) {
    const place = assign(hub, buses, taken)
    const ports = Array.from({ length: hubPorts }, (_, i) => `${place.port}.${i + 1}`)
    buses.set(place.bus, [...(buses.get(place.bus) ?? []), ...ports])
  }
  for (const device of devices) assign(device, buses, taken)
}

/** The ports of the controllers themselves, by bus, which is the controller's index. */
function rootBuses(controllers: readonly Controller[]): Map<number, string[]> {
  const buses = new Map<number, string[]>()
  for (const { index = 0, model = '', ports } of controllers) {
    const count = ports ?? rootPorts[model] ?? 0
    const known = buses.get(index)?.length ?? 0
    // A USB 2 controller that is not there leaves the companion's own ports.
    const own = Math.max(known, count, companion[model] ?? 0)
    buses.set(
      index,
      Array.from({ length: own }, (_, i) => `${i + 1}`),
    )
  }
  return buses
}

function reserve({ address }: UsbDevice, taken: Set<string>): void {
  if (address === undefined) return
  if (address.type !== 'usb') {
    throw refusal('a USB device has an address of type "usb"', {
      at: address,
      below: '/@type',
      value: address.type,
    })
  }
  if (address.port === undefined) return
  address.bus ??= 0
  const place = `${address.bus}:${address.port}`
  if (taken.has(place)) {
    throw refusal('another device has the same port', {
      at: address,
      below: '/@port',
      value: address.port,
    })
  }
  taken.add(place)
}

function assign(
  device: UsbDevice,
  buses: ReadonlyMap<number, readonly string[]>,
  taken: Set<string>,
): { bus: number; port: string } {
  const { address } = device
  if (address?.type === 'usb' && address.port !== undefined) {
    return { bus: address.bus ?? 0, port: address.port }
  }
  const only = address?.type === 'usb' ? address.bus : undefined
  for (const [bus, ports] of [...buses].toSorted(([a], [b]) => a - b)) {
    if (only !== undefined && bus !== only) continue
    const port = ports.find((port) => !taken.has(`${bus}:${port}`))
    if (port === undefined) continue
    taken.add(`${bus}:${port}`)
    device.address = { ...address, type: 'usb', bus, port }
    return { bus, port }
  }
  throw refusal('there is no free USB port', { at: address ?? device })
}
