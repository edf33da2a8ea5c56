import { XmlError, parseXml } from '../xml/index.ts'
import { allDevices } from './devices.ts'
import type { AnyDevice } from './devices.ts'
import type { Devices, Disk, DomainDefinition, NetworkInterface } from './generated/model.ts'
import { completeBus } from './normalise/disks.ts'
import { forgetAliases } from './normalise/others.ts'
import { normaliseDomain } from './normalise/index.ts'
import type { DomainOptions } from './options.ts'
import { refusal } from './refuse.ts'
import { devices as devicesSpec } from './schema/domain.ts'
import { childName } from './schema/lookup.ts'
import { readElement } from './schema/read.ts'
import type { Model } from './schema/types.ts'

/** A device that was described by itself, without the domain around it. */
export interface DeviceDescription {
  /** Name of its element: `disk`. */
  element: string
  /** The property of `Devices` that has its kind. */
  key: keyof Devices
  /** Whether a domain can have several of the kind. */
  isList: boolean
  device: AnyDevice
}

/**
 * Reads the document of one device, as clients send it to attach, detach or change it.
 *
 * @throws XmlError for a document that is wrong, or of something that is no device
 */
export function parseDevice(xml: string): DeviceDescription {
  const root = parseXml(xml)
  const specs = devicesSpec.children.flatMap((child) =>
    child.kind === 'one' || child.kind === 'many' ? [child] : [],
  )
  const spec = specs.find((child) => childName(child) === root.name)
  if (spec === undefined) {
    throw new XmlError('is no device that a domain can have', {
      path: `/${root.name}`,
      ...(root.position === undefined ? {} : { position: root.position }),
    })
  }
  const device = readElement(root, spec.element, `/${root.name}`) as AnyDevice
  const key = spec.key as keyof Devices
  return { element: root.name, key, isList: spec.kind === 'many', device }
}

/** Devices of a kind in a definition, in their order. */
export function devicesOfKind(
  { devices }: DomainDefinition,
  key: keyof Devices,
): readonly AnyDevice[] {
  const value = devices?.[key] as AnyDevice | AnyDevice[] | undefined
  return value === undefined ? [] : Array.isArray(value) ? value : [value]
}

/**
 * A definition with one more device, which is completed. The definition that was given stays as it is.
 *
 * @throws XmlError when it does not go with the others
 */
export function withDevice(
  def: DomainDefinition,
  { key, isList, device, element }: DeviceDescription,
  options: DomainOptions,
): { definition: DomainDefinition; device: AnyDevice } {
  const definition = structuredClone(def)
  if (options.isRunning === true) {
    forgetAliases([device])
    const { alias } = device
    if (alias !== undefined && allDevices(def).some((other) => other.alias?.name === alias.name)) {
      throw refusal('another device has the same name', {
        at: alias,
        below: '/@name',
        value: alias.name,
      })
    }
  }
  const devices = (definition.devices ??= {}) as Record<string, unknown>
  if (key === 'disks') completeBus(device as Disk)
  if (isList) ((devices[key] ??= []) as AnyDevice[]).push(device)
  else if (devices[key] !== undefined && !isNone(devices[key])) {
    throw refusal('is there already, and can be there only once', {
      at: device,
      value: element,
    })
  } else devices[key] = device
  normaliseDomain(definition, options)
  return { definition, device }
}

const isNone = (device: unknown): boolean => (device as { model?: unknown }).model === 'none'

/** A definition without one of its devices, which is found by its place among its kind. */
export function withoutDevice(
  def: DomainDefinition,
  key: keyof Devices,
  index: number,
): DomainDefinition {
  const definition = structuredClone(def)
  const devices = definition.devices as Record<string, unknown>
  const value = devices[key]
  if (Array.isArray(value)) value.splice(index, 1)
  if (!Array.isArray(value) || value.length === 0) delete devices[key]
  return definition
}

/** A definition with another device in the place of one. @throws XmlError */
export function replacedDevice(
  def: DomainDefinition,
  index: number,
  { key, isList, device }: DeviceDescription,
  options: DomainOptions,
): DomainDefinition {
  const definition = structuredClone(def)
  const devices = definition.devices as Record<string, unknown>
  if (isList) (devices[key] as AnyDevice[])[index] = device
  else devices[key] = device
  normaliseDomain(definition, options)
  return definition
}

/**
 * Places of the devices that a description is of: a disk by its target, a card by its MAC address if it has one, anything
 * else by all that the description says.
 */
export function findDevice(def: DomainDefinition, wanted: DeviceDescription): number[] {
  const found: number[] = []
  for (const [index, device] of devicesOfKind(def, wanted.key).entries()) {
    if (isSame(device, wanted)) found.push(index)
  }
  return found
}

function isSame(device: AnyDevice, { key, device: wanted }: DeviceDescription): boolean {
  if (key === 'disks') return (device as Disk).target?.dev === (wanted as Disk).target?.dev
  if (key === 'interfaces') {
    const { mac, address, alias } = wanted as NetworkInterface
    const card = device as NetworkInterface
    if (mac !== undefined && mac.address !== card.mac?.address) return false
    if (address !== undefined && !includes(card.address, address)) return false
    return alias === undefined || alias.name === card.alias?.name
  }
  return includes(device, wanted)
}

/** Whether everything that is said is so; what is not said may be anything. */
function includes(all: unknown, some: unknown): boolean {
  if (typeof some !== 'object' || some === null) return all === some
  if (typeof all !== 'object' || all === null) return false
  return Object.entries(some as Model).every(
    ([key, value]) => key === 'type' || includes((all as Model)[key], value),
  )
}

/** The device with an alias, and where it is. */
export function deviceByAlias(
  def: DomainDefinition,
  name: string,
): { key: keyof Devices; index: number } | undefined {
  if (!allDevices(def).some(({ alias }) => alias?.name === name)) return undefined
  for (const key of Object.keys(def.devices ?? {}) as (keyof Devices)[]) {
    if (key === 'emulator' || key.startsWith('unknown')) continue
    const index = devicesOfKind(def, key).findIndex(({ alias }) => alias?.name === name)
    if (index >= 0) return { key, index }
  }
  return undefined
}
