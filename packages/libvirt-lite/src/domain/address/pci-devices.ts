import { controllersOf } from '../normalise/controllers.ts'
import { chipsetOf } from '../normalise/machine.ts'
import type { Controller, DeviceAddress, DomainDefinition } from '../generated/model.ts'
import { Plug, busKinds } from './pci-bus.ts'

/** Something that has a PCI address or wants one. */
export interface PciDevice {
  device: { address?: DeviceAddress }
  plug: number
  controller?: Controller
}

interface HasModel {
  model?: string | { type?: string }
}

/** Everything on PCI that is no PCI controller, in the order in which libvirt gives addresses. */
export function pciDevices(def: DomainDefinition): PciDevice[] {
  const { devices = {} } = def
  const express = chipsetOf(def) === 'q35' ? Plug.Pcie : Plug.Pci
  const virtio = (device: HasModel): number => {
    const model = typeof device.model === 'object' ? device.model.type : device.model
    return model === 'virtio-transitional' ? Plug.Pci : express
  }
  const all = <T extends PciDevice['device']>(
    items: readonly T[] | undefined,
    plugOf: (item: T) => number,
  ): PciDevice[] =>
    (items ?? []).flatMap((device) => {
      const plug = plugOf(device)
      return plug === 0 ? [] : [{ device, plug }]
    })
  const only = <T extends PciDevice['device']>(item: T | undefined) =>
    item === undefined ? [] : [item]
  return [
    ...all(devices.filesystems, virtio),
    ...all(devices.interfaces, (card) => networkPlug(card.type, card.model?.type, express)),
    ...all(devices.sounds, ({ model }) =>
      ['es1370', 'ac97', 'ich6', 'ich9'].includes(model) ? Plug.Pci : 0,
    ),
    ...otherControllers(def, express),
    ...all(devices.disks, (disk) => (disk.target?.bus === 'virtio' ? virtio(disk) : 0)),
    ...all(devices.hostdevs, ({ type, model }) =>
      type === 'pci' || type === 'scsi_host' || (type === 'mdev' && model === 'vfio-pci')
        ? express
        : 0,
    ),
    ...all(only(devices.memballoon), (balloon) =>
      balloon.model.startsWith('virtio') ? virtio(balloon) : 0,
    ),
    ...all(devices.rngs, virtio),
    ...all(devices.watchdogs, ({ model }) => (model === 'i6300esb' ? Plug.Pci : 0)),
    ...all(devices.videos, (video) => videoPlug(video.model?.type, express)),
    ...all(devices.shmems, () => Plug.Pci),
    ...all(devices.inputs, (input) => (input.bus === 'virtio' ? virtio(input) : 0)),
    ...all(devices.serials, ({ target }) => (target?.type === 'pci-serial' ? Plug.Pci : 0)),
    ...all(only(devices.iommu), ({ model }) => (model === 'virtio' ? express : 0)),
    ...all(only(devices.vsock), virtio),
    ...all(devices.memories, ({ model }) => (model.startsWith('virtio-') ? express : 0)),
    ...all(devices.cryptos, () => express),
    ...all(devices.panics, ({ model }) => (model === 'pvpanic' ? express : 0)),
  ]
}

function networkPlug(type: string, model: string | undefined, express: number): number {
  if (type === 'hostdev' || model === undefined) return express
  if (model === 'usb-net') return 0
  return ['virtio', 'virtio-non-transitional', 'e1000e', 'igb'].includes(model) ? express : Plug.Pci
}

function videoPlug(model: string | undefined, express: number): number {
  if (model === 'none' || model === 'ramfb') return 0
  // Graphics cards of PCI Express are virtio-gpu and bochs; the first card goes by the chipset anyway.
  return model === 'virtio' || model === 'bochs' ? express : Plug.Pci
}

function otherControllers(def: DomainDefinition, express: number): PciDevice[] {
  return controllersOf(def).flatMap((controller) => {
    const plug = controllerPlug(controller, express)
    return plug === 0 || controller.type === 'pci' ? [] : [{ device: controller, plug, controller }]
  })
}

function controllerPlug({ type, model }: Controller, express: number): number {
  switch (type) {
    case 'sata':
    case 'ide':
      return Plug.Pci
    case 'usb':
      if (model === 'none') return 0
      return model === 'nec-xhci' || model === 'qemu-xhci' ? express : Plug.Pci
    case 'scsi':
      if (model === 'ncr53c90') return 0
      return model === 'virtio-scsi' || model === 'virtio-non-transitional' ? express : Plug.Pci
    case 'virtio-serial':
      return model === 'virtio-transitional' ? Plug.Pci : express
    default:
      return 0
  }
}

/** The PCI controllers that are plugged in somewhere, which is all but the root. */
export function pciControllers(def: DomainDefinition): PciDevice[] {
  return controllersOf(def).flatMap((controller) => {
    const plug = controller.type === 'pci' ? busKinds[controller.model ?? '']?.as : undefined
    return plug === undefined ? [] : [{ device: controller, plug, controller }]
  })
}
