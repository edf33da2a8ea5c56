import { didYouMean } from '../../xml/suggest.ts'
import { refusal, unsupported } from '../refuse.ts'
import { controllerModels } from '../schema/controller.ts'
import { chipsetOf } from './machine.ts'
import type { Controller, DomainDefinition } from '../generated/model.ts'

type Type = Controller['type']

/** Indices and models of the controllers that a document has. */
export function normaliseControllers(def: DomainDefinition): void {
  const { devices } = def
  if (devices === undefined) return
  const controllers = (devices.controllers ??= [])
  for (const controller of controllers) {
    controller.index ??= nextIndex(controllers, controller)
    checkModel(controller)
    if (controller.type === 'usb') {
      controller.model ??= 'piix3-uhci'
      if ((controller.ports ?? 1) > 15 || controller.ports === 0) {
        throw unsupported('a USB controller has 1 to 15 ports', {
          at: controller,
          below: '/@ports',
          value: controller.ports,
        })
      }
    }
  }
  if (devices.controllers !== undefined) devices.controllers = sortControllers(controllers)
  addDefaults(def)
}

function nextIndex(controllers: readonly Controller[], { type }: Controller): number {
  const used = controllers.flatMap((other) => (other.type === type ? (other.index ?? []) : []))
  return used.length === 0 ? 0 : Math.max(...used) + 1
}

function checkModel(controller: Controller): void {
  const { type, model } = controller
  const models = controllerModels[type] ?? []
  if (type === 'pci' && model === undefined) {
    throw refusal(`is missing, expected one of ${models.join(', ')}`, {
      at: controller,
      below: '/@model',
    })
  }
  if (model === undefined || models.includes(model)) return
  const expected =
    models.length === 0 ? `type "${type}" has no models` : `expected one of ${models.join(', ')}`
  throw refusal(`${expected}${didYouMean(model, models)}`, {
    at: controller,
    below: '/@model',
    value: model,
  })
}

/** Controllers of a type are in the order of their indices; a type is where its first one was. */
export function sortControllers(controllers: readonly Controller[]): Controller[] {
  const sorted: Controller[] = []
  for (const controller of controllers) {
    const sameType = (other: Controller) => other.type === controller.type
    const later = sorted.findIndex(
      (other) => sameType(other) && (other.index ?? 0) > (controller.index ?? 0),
    )
    const last = sorted.findLastIndex((other) => sameType(other))
    sorted.splice(later >= 0 ? later : last >= 0 ? last + 1 : sorted.length, 0, controller)
  }
  refuseSameIndex(sorted)
  return sorted
}

function refuseSameIndex(controllers: readonly Controller[]): void {
  const seen = new Set<string>()
  for (const controller of controllers) {
    const { type, index = 0, model = '' } = controller
    // The parts of a USB 2 controller share its index.
    if (type === 'usb' && model.startsWith('ich9-')) continue
    if (seen.has(`${type} ${index}`)) {
      throw refusal(`another controller of type "${type}" has the same index`, {
        at: controller,
        below: '/@index',
        value: index,
      })
    }
    seen.add(`${type} ${index}`)
  }
}

/** The controllers that every machine has. */
function addDefaults(def: DomainDefinition): void {
  const chipset = chipsetOf(def)
  if (chipset === 'other') return
  if (!has(def, 'usb')) add(def, 'usb', 0, chipset === 'q35' ? 'qemu-xhci' : 'piix3-uhci')
  if (chipset === 'q35' && !has(def, 'sata', 0)) add(def, 'sata', 0)
  const root = chipset === 'q35' ? 'pcie-root' : 'pci-root'
  const given = controllersOf(def).find(({ type, index }) => type === 'pci' && index === 0)
  if (given === undefined) add(def, 'pci', 0, root)
  else if (given.model !== root) {
    throw refusal(`the PCI controller with the index 0 of this machine is "${root}"`, {
      at: given,
      below: '/@model',
      value: given.model,
    })
  }
  if (chipset === 'q35' && usesIde(def)) {
    throw unsupported('this machine has no IDE controller: use sata, scsi or virtio', {
      at: usesIde(def),
    })
  }
}

function usesIde({ devices }: DomainDefinition): object | undefined {
  return (
    devices?.disks?.find(({ target }) => target?.bus === 'ide') ??
    devices?.controllers?.find(({ type }) => type === 'ide')
  )
}

export function controllersOf({ devices }: DomainDefinition): readonly Controller[] {
  return devices?.controllers ?? []
}

/** Whether there is a controller of a type, and with an index if one is given. */
export function has(def: DomainDefinition, type: Type, index?: number): boolean {
  return controllersOf(def).some(
    (controller) => controller.type === type && (index ?? controller.index) === controller.index,
  )
}

/** Adds a controller at the end. */
export function add(def: DomainDefinition, type: Type, index: number, model?: string): Controller {
  const controller: Controller = { type, index, ...(model === undefined ? {} : { model }) }
  def.devices ??= {}
  ;(def.devices.controllers ??= []).push(controller)
  return controller
}

/** More of a kind than any machine has room for; a document may name any number. */
const mostControllers = 256

/** Adds what is missing of a type up to an index. */
export function addUpTo(def: DomainDefinition, type: Type, highest: number, model?: string): void {
  if (highest >= mostControllers) {
    throw unsupported(
      `a device is at the ${type} controller ${highest}; there can be ${mostControllers} of them`,
      { at: def },
    )
  }
  for (let index = 0; index <= highest; index++) {
    if (!has(def, type, index)) add(def, type, index, model)
  }
}
