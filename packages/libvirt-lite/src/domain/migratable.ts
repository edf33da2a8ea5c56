import type { DomainDefinition } from './generated/model.ts'
import { audioFor } from './normalise/graphics.ts'
import { sortDisks } from './normalise/disks.ts'
import { sortControllers } from './normalise/controllers.ts'
import { chipsetOf } from './normalise/machine.ts'

/**
 * A definition for another host: without the devices that every machine has, which older versions
 * of libvirt do not expect to see.
 */
export function migratableDefinition(def: DomainDefinition): DomainDefinition {
  const copy = structuredClone(def)
  const { devices } = copy
  if (devices === undefined) return copy
  const i440fx = chipsetOf(copy) === 'i440fx'
  // The other host would put them in this order when it reads them.
  if (devices.disks !== undefined) devices.disks = sortDisks(devices.disks)
  const usb = (devices.controllers ?? []).filter(({ type }) => type === 'usb')
  const pci = (devices.controllers ?? []).filter(({ type }) => type === 'pci')
  devices.controllers = sortControllers(devices.controllers ?? []).filter((controller) => {
    const { type, model, index, address, alias } = controller
    if (!i440fx || index !== 0 || alias !== undefined) return true
    if (type === 'pci') {
      return model !== 'pci-root' || pci.length > 1 || controller.pcihole64 !== undefined
    }
    const builtIn = address?.type === 'pci' && address.bus === 0 && address.slot === 1
    return !(type === 'usb' && model === 'piix3-uhci' && usb.length === 1 && builtIn)
  })
  devices.inputs = (devices.inputs ?? []).filter(
    ({ type, bus }) => !(type === 'keyboard' && bus === 'ps2'),
  )
  const [audio, ...more] = devices.audios ?? []
  const implied = audioFor(devices.graphics ?? [])
  const plain = audio !== undefined && Object.keys(audio).length === 2 && audio.id === 1
  if (plain && audio.type === implied && more.length === 0) delete devices.audios
  return copy
}
