import { add, controllersOf } from '../normalise/controllers.ts'
import { chipsetOf } from '../normalise/machine.ts'
import { unsupported } from '../refuse.ts'
import type { Controller, DomainDefinition } from '../generated/model.ts'
import { reserveChipset } from './chipset.ts'
import { PciBuses, Plug } from './pci-bus.ts'
import type { PciPlace } from './pci-bus.ts'
import { pciControllers, pciDevices } from './pci-devices.ts'
import type { PciDevice } from './pci-devices.ts'

/** What hands out places: for trial, or for good. */
interface Allocation {
  buses: PciBuses
  place: (device: PciDevice, place: PciPlace, multifunction?: boolean) => void
}

/**
 * Gives all PCI devices their addresses, and adds the PCI controllers that they need.
 *
 * Addresses in the document stay. The others are given in a fixed order, so that the same document
 * has the same addresses everywhere; once given they are written down, and never change.
 */
export function assignPci(def: DomainDefinition): void {
  const chipset = chipsetOf(def)
  if (chipset === 'other') return
  const devices = pciDevices(def)
  completeGiven([...pciControllers(def), ...devices])
  const indices = controllersOf(def).flatMap(({ type, index }) =>
    type === 'pci' ? (index ?? 0) : [],
  )
  const highest = Math.max(0, ...indices)
  addBuses(def, trial(def, devices, highest))
  allocate(def, devices, false)
  markMultifunction([...pciControllers(def), ...devices])
  describePorts(def)
}

/** What an address of a document does not say is 0. */
function completeGiven(all: readonly PciDevice[]): void {
  for (const { device } of all) {
    const { address } = device
    if (address?.type !== 'pci') continue
    address.domain ??= 0
    address.bus ??= 0
    address.slot ??= 0
    address.function ??= 0
    if (address.domain !== 0) {
      throw unsupported('there is only the PCI domain 0', {
        at: address,
        below: '/@domain',
        value: address.domain,
      })
    }
  }
}

/** Whether a device is to be given an address: one without, or one that says no more than its type. */
function wants({ device }: PciDevice): boolean {
  const { address } = device
  if (address === undefined) return true
  return (
    address.type === 'pci' && !(address.domain || address.bus || address.slot || address.function)
  )
}

/** Models by bus number; what is missing between them is of the kind that the machine adds by itself. */
function modelsOf(def: DomainDefinition): string[] {
  const models: string[] = []
  for (const { type, index = 0, model = '' } of controllersOf(def)) {
    if (type !== 'pci') continue
    if (index > 255) throw unsupported('a machine has at most 256 PCI buses', { value: index })
    models[index] = model
  }
  const filler = chipsetOf(def) === 'q35' ? 'pcie-root-port' : 'pci-bridge'
  return Array.from(models, (model) => model ?? filler)
}

/** Finds out which buses there have to be. */
function trial(def: DomainDefinition, devices: readonly PciDevice[], highest: number): PciBuses {
  const { buses } = allocate(def, devices, true)
  const express = chipsetOf(def) === 'q35'
  // A machine whose ports are all made here gets one more, in which a device can be plugged later.
  if (express && highest === 0 && buses.buses.length > 1) buses.reserveNext(Plug.Pcie)
  return buses
}

/** Gives addresses in the order of the buses; with `grows` only to see what would happen. */
function allocate(
  def: DomainDefinition,
  devices: readonly PciDevice[],
  grows: boolean,
): Allocation {
  const buses = new PciBuses(modelsOf(def), grows)
  const trialPlaces = new Map<object, PciPlace>()
  const allocation: Allocation = {
    buses,
    place: ({ device }, place, multifunction) => {
      trialPlaces.set(device, place)
      if (grows) return
      device.address = {
        ...device.address,
        type: 'pci',
        domain: 0,
        ...place,
        ...(multifunction === undefined ? {} : { multifunction }),
      }
    },
  }
  const controllers = pciControllers(def)
  for (const device of [...controllers, ...devices]) {
    const { address } = device.device
    if (address?.type !== 'pci' || wants(device) || isIntegrated(device, def)) continue
    const { bus = 0, slot = 0, function: fn = 0 } = address
    buses.reserve({ bus, slot, function: fn }, device.plug, address)
  }
  reserveChipset(def, allocation, { controllers, devices, wants })
  // Room for one more device, so that a bridge is added while there is a slot for it.
  if (grows && chipsetOf(def) === 'i440fx' && !buses.isFull()) buses.reserveNext(Plug.Pci)
  for (const device of [...controllers, ...devices]) {
    if (!wants(device) || trialPlaces.has(device.device)) continue
    assignNext(device, allocation, trialPlaces, devices)
  }
  return allocation
}

/** Devices in the chipset itself have their places by it. */
function isIntegrated({ controller }: PciDevice, def: DomainDefinition): boolean {
  const { address } = controller ?? {}
  if (chipsetOf(def) !== 'i440fx' || address?.type !== 'pci') return false
  if (controller?.index !== 0 || address.bus !== 0 || address.slot !== 1) return false
  const ide = controller.type === 'ide' && address.function === 1
  return (
    ide ||
    (controller.type === 'usb' && controller.model === 'piix3-uhci' && address.function === 2)
  )
}

/** Functions of the parts of a USB 2 controller, which are in one slot. */
const companions: Readonly<Record<string, number>> = {
  'ich9-ehci1': 7,
  'ich9-uhci1': 0,
  'ich9-uhci2': 1,
  'ich9-uhci3': 2,
}

function assignNext(
  device: PciDevice,
  allocation: Allocation,
  trialPlaces: ReadonlyMap<object, PciPlace>,
  devices: readonly PciDevice[],
): void {
  const { controller, plug } = device
  const fn = controller?.type === 'usb' ? companions[controller.model ?? ''] : undefined
  if (fn === undefined) {
    allocation.place(device, allocation.buses.reserveNext(plug, 0, device.device))
    return
  }
  const multifunction = fn === 0 ? true : undefined
  const sibling = devices.find(
    (other) =>
      other.controller?.type === 'usb' &&
      (other.controller.model ?? '') in companions &&
      other.controller.index === controller?.index &&
      placeOf(other, trialPlaces) !== undefined,
  )
  const known = sibling === undefined ? undefined : placeOf(sibling, trialPlaces)
  if (known === undefined) {
    allocation.place(device, allocation.buses.reserveNext(plug, fn, device.device), multifunction)
  } else {
    const place = { ...known, function: fn }
    allocation.buses.reserve(place, plug, device.device)
    allocation.place(device, place, multifunction)
  }
}

function placeOf(
  device: PciDevice,
  trialPlaces: ReadonlyMap<object, PciPlace>,
): PciPlace | undefined {
  const trial = trialPlaces.get(device.device)
  const { address } = device.device
  if (trial !== undefined || address?.type !== 'pci' || wants(device)) return trial
  const { bus = 0, slot = 0, function: fn = 0 } = address
  return { bus, slot, function: fn }
}

/** Adds controllers for the buses that the trial added; each needs a place itself, and so perhaps a bus. */
function addBuses(def: DomainDefinition, trial: PciBuses): void {
  for (let index = 1; index < trial.buses.length; index++) {
    const there = controllersOf(def).some(
      (controller) => controller.type === 'pci' && controller.index === index,
    )
    const model = trial.buses[index]?.model ?? ''
    if (there) continue
    const controller = add(def, 'pci', index, model)
    const [plugged] = pciControllers(def).filter((device) => device.controller === controller)
    if (plugged !== undefined) trial.reserveNext(plugged.plug)
  }
}

/** The first function of a slot says that there are more. */
function markMultifunction(devices: readonly PciDevice[]): void {
  const all = devices.flatMap(({ device }) =>
    device.address?.type === 'pci' ? device.address : [],
  )
  const several = new Set(
    all.filter(({ function: fn }) => fn !== 0).map(({ bus, slot }) => `${bus}:${slot}`),
  )
  for (const address of all) {
    const first = address.function === 0 && several.has(`${address.bus}:${address.slot}`)
    if (first) address.multifunction ??= true
  }
}

const deviceNames: Readonly<Record<string, string>> = {
  'pci-bridge': 'pci-bridge',
  'dmi-to-pci-bridge': 'i82801b11-bridge',
  'pcie-to-pci-bridge': 'pcie-pci-bridge',
  'pcie-root-port': 'pcie-root-port',
  'pcie-switch-upstream-port': 'x3130-upstream',
  'pcie-switch-downstream-port': 'xio3130-downstream',
  'pci-expander-bus': 'pxb',
  'pcie-expander-bus': 'pxb-pcie',
}

/** What the emulator is told of PCI controllers: names of devices, and numbers of ports and chassis. */
function describePorts(def: DomainDefinition): void {
  let expanders = 256
  for (const controller of controllersOf(def)) {
    const { type, model = '', index = 0, address } = controller
    const name = type === 'pci' ? deviceNames[model] : undefined
    if (name === undefined || address?.type !== 'pci') continue
    controller.modelName ??= { name }
    const { slot = 0, function: fn = 0, bus = 0 } = address
    const target = (controller.target ??= {})
    if (model === 'pci-bridge') {
      target.chassisNr ??= index
      refuseLoop(controller, bus)
    } else if (model === 'pcie-root-port') {
      target.chassis ??= index
      target.port ??= slot * 8 + fn
    } else if (model === 'pcie-switch-downstream-port') {
      target.chassis ??= index
      target.port ??= slot
    } else if (model.endsWith('expander-bus')) {
      expanders = Math.min(expanders, target.busNr ?? expanders) - 2
      target.busNr ??= expanders
    }
  }
}

function refuseLoop(controller: Controller, bus: number): void {
  if ((controller.index ?? 0) > bus) return
  throw unsupported(`must be above the number of the bus that it is on, ${bus}`, {
    at: controller,
    below: '/@index',
    value: controller.index,
  })
}
