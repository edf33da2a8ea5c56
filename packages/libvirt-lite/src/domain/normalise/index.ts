import { randomUUID } from 'node:crypto'
import { assignDrives } from '../address/drives.ts'
import { assignPci } from '../address/pci.ts'
import { assignUsb } from '../address/usb.ts'
import { assignVirtioSerial } from '../address/virtio-serial.ts'
import { allDevices } from '../devices.ts'
import { defaultEmulator } from '../options.ts'
import type { DomainOptions } from '../options.ts'
import { unsupported } from '../refuse.ts'
import type { DomainDefinition } from '../generated/model.ts'
import { normaliseCharacters } from './characters.ts'
import { add, has, normaliseControllers } from './controllers.ts'
import { normaliseDisks } from './disks.ts'
import { normaliseGraphics } from './graphics.ts'
import { normaliseLife, normaliseMachine } from './machine.ts'
import { normaliseMemory } from './memory.ts'
import { normaliseNetwork } from './network.ts'
import { forgetAliases, normaliseOthers } from './others.ts'
import { normaliseProcessors } from './processors.ts'

/**
 * Completes a definition the way libvirt does when a domain is defined: everything that the guest
 * could notice is decided and written down, so that it is the same at each start.
 *
 * @throws XmlError when the definition contradicts itself
 */
export function normaliseDomain(def: DomainDefinition, options: DomainOptions = {}): void {
  if (def.type === 'hvf') {
    throw unsupported('expected one of qemu, kvm', { at: def, below: '/@type', value: def.type })
  }
  delete def.id
  def.uuid ??= (options.newUuid ?? randomUUID)()
  def.devices ??= {}
  def.devices.emulator ??= options.emulator ?? defaultEmulator
  normaliseMemory(def)
  normaliseMachine(def, options)
  normaliseProcessors(def)
  normaliseLife(def)
  if (options.isRunning !== true) forgetAliases(allDevices(def))
  normaliseDisks(def)
  normaliseNetwork(def, options)
  normaliseCharacters(def, options)
  normaliseGraphics(def)
  normaliseOthers(def)
  normaliseControllers(def)
  assignAddresses(def)
}

function assignAddresses(def: DomainDefinition): void {
  assignDrives(def)
  assignVirtioSerial(def)
  assignCcid(def)
  assignMemorySlots(def)
  assignUsb(def)
  assignPci(def)
}

function assignCcid(def: DomainDefinition): void {
  for (const [slot, card] of (def.devices?.smartcards ?? []).entries()) {
    if (!has(def, 'ccid')) add(def, 'ccid', 0)
    card.address ??= { type: 'ccid', controller: 0, slot }
  }
}

function assignMemorySlots({ devices }: DomainDefinition): void {
  const modules = (devices?.memories ?? []).filter(({ model }) => model.endsWith('dimm'))
  const taken = new Set(
    modules.flatMap(({ address }) => (address?.type === 'dimm' ? (address.slot ?? []) : [])),
  )
  for (const module of modules) {
    if (module.address !== undefined) continue
    let slot = 0
    while (taken.has(slot)) slot++
    taken.add(slot)
    module.address = { type: 'dimm', slot }
  }
}
