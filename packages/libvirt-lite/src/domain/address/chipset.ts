import { chipsetOf } from '../normalise/machine.ts'
import { unsupported } from '../refuse.ts'
import type { Controller, DomainDefinition } from '../generated/model.ts'
import { Plug, format } from './pci-bus.ts'
import type { PciBuses, PciPlace } from './pci-bus.ts'
import type { PciDevice } from './pci-devices.ts'

interface Allocation {
  buses: PciBuses
  place: (device: PciDevice, place: PciPlace, multifunction?: boolean) => void
}

interface Devices {
  controllers: readonly PciDevice[]
  devices: readonly PciDevice[]
  wants: (device: PciDevice) => boolean
}

const at = (slot: number, fn: number = 0): PciPlace => ({ bus: 0, slot, function: fn })

/** Takes the places of what is part of the chipset, and of the first graphics card. */
export function reserveChipset(def: DomainDefinition, allocation: Allocation, all: Devices): void {
  const chipset = chipsetOf(def)
  if (chipset === 'i440fx') reservePiix3(def, allocation, all)
  else if (chipset === 'q35') reserveIch9(def, allocation, all)
}

/** Puts a device where the chipset has it; a document that has it elsewhere is refused. */
function fix(
  device: PciDevice,
  place: PciPlace,
  { place: give }: Allocation,
  { wants }: Devices,
): void {
  const { address } = device.device
  if (wants(device)) {
    give(device, place)
    return
  }
  const same =
    address?.type === 'pci' &&
    address.bus === place.bus &&
    address.slot === place.slot &&
    address.function === place.function
  if (!same) {
    throw unsupported(`this controller of the chipset is at the ${format(place)}`, {
      at: address ?? device.device,
    })
  }
}

const isFirst = (type: Controller['type']) => (device: PciDevice) =>
  device.controller?.type === type && device.controller.index === 0

/** Slot 1 has the ISA bridge, the IDE and USB controllers, and power management. */
function reservePiix3(def: DomainDefinition, allocation: Allocation, all: Devices): void {
  const { buses } = allocation
  const ide = all.devices.find(isFirst('ide'))
  const usb = all.devices.find(
    (device) => isFirst('usb')(device) && device.controller?.model === 'piix3-uhci',
  )
  if (ide !== undefined) fix(ide, at(1, 1), allocation, all)
  if (usb !== undefined) fix(usb, at(1, 2), allocation, all)
  for (const fn of [0, 1, 2, 3]) {
    const used = fn === 0 || fn === 3 || (fn === 1 ? ide : usb) !== undefined
    if (used) buses.reserve(at(1, fn), Plug.Pci)
  }
  placeVideo(def, 2, allocation, all)
}

/** Slot 31 has the ISA bridge, the SATA controller and the SMBus; others have customary places. */
function reserveIch9(def: DomainDefinition, allocation: Allocation, all: Devices): void {
  const { buses } = allocation
  const sata = all.devices.find(isFirst('sata'))
  if (sata !== undefined) {
    const wanted = all.wants(sata)
    fix(sata, at(31, 2), allocation, all)
    // One with an address in the document has its place already.
    if (wanted) buses.reserve(at(31, 2), Plug.Pci)
  }
  for (const device of [...all.controllers, ...all.devices]) {
    const { controller } = device
    if (controller === undefined || !all.wants(device)) continue
    if (controller.model === 'ich9-uhci1') {
      const slot = [29, 26].find((slot) => !buses.isTaken(at(slot)))
      if (slot === undefined) continue
      buses.reserve(at(slot), Plug.Pcie)
      allocation.place(device, at(slot), true)
    } else if (controller.model === 'dmi-to-pci-bridge' && !buses.isTaken(at(30))) {
      buses.reserve(at(30), Plug.DmiToPci)
      allocation.place(device, at(30))
    }
  }
  for (const fn of [0, 3]) buses.reserve(at(31, fn), Plug.Pcie)
  placeVideo(def, 1, allocation, all)
  const sound = def.devices?.sounds?.find(({ model }) => model === 'ich9')
  const card = all.devices.find(({ device }) => device === sound)
  if (card !== undefined && all.wants(card) && !buses.isTaken(at(27))) {
    buses.reserve(at(27), Plug.Pcie)
    allocation.place(card, at(27))
  }
}

/** The first graphics card is where emulators have always put it, if the slot is free. */
function placeVideo(
  def: DomainDefinition,
  slot: number,
  { buses, place }: Allocation,
  all: Devices,
): void {
  const [video] = def.devices?.videos ?? []
  const card = all.devices.find(({ device }) => device === video)
  if (card === undefined || !all.wants(card)) return
  if (buses.isTaken(at(slot))) {
    place(card, buses.reserveNext(card.plug, 0, card.device))
  } else {
    buses.reserve(at(slot), Plug.Pci)
    place(card, at(slot))
  }
}
