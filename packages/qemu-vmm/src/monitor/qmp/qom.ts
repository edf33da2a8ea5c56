import { deviceTypes } from '../../devices/registry.ts'
import type { DeviceOption, DeviceType, PropertySpec } from '../../devices/device-type.ts'
import { CPU_PROPERTIES, cpuTypeName, isCpuType } from '../../devices/processor.ts'
import { CPU_MODELS } from '../../cli/cpu-models.ts'
import { MACHINE_KINDS } from '../../machine/machine-type.ts'
import type { QmpCommand, QmpContext } from './command.ts'
import { processorsOf } from './machine-queries.ts'
import { QmpError } from './message.ts'
import { OBJECT_PROPERTIES } from './object-types.ts'
import { any, bool, listOf, str, struct } from './types.ts'

const NUMBER = /^-?\d+$/
const PROPERTIES = listOf(
  struct({ name: str, type: str, 'description?': str, 'default-value?': any }),
)

/** A property of an object, with its value where it has one of JSON's. */
interface Property {
  name: string
  type: string
  value?: unknown
}

/** Commands for QEMU's object model: the machine, its processors, and the devices of `-device`. */
export const QOM_COMMANDS: readonly QmpCommand[] = [
  {
    name: 'device-list-properties',
    args: struct({ typename: str }),
    returns: PROPERTIES,
    run: (_context, { typename }) => properties(typeNamed(typename as string)),
  },
  {
    name: 'qom-list-properties',
    args: struct({ typename: str }),
    returns: PROPERTIES,
    run: (_context, { typename }) => propertiesOfType(typename as string),
  },
  {
    name: 'qom-list-types',
    args: struct({ 'implements?': str, 'abstract?': bool }),
    returns: listOf(struct({ name: str, 'parent?': str })),
    run: (_context, args) => typesOf(args['implements'] as string | undefined),
  },
  {
    name: 'qom-list',
    args: struct({ path: str }),
    returns: PROPERTIES,
    run: async (context, { path }) =>
      (await objectAt(context, path as string)).map(({ name, type }) => ({ name, type })),
  },
  {
    name: 'qom-get',
    args: struct({ path: str, property: str }),
    returns: any,
    run: async (context, { path, property }) => {
      const object = await objectAt(context, path as string)
      const found = object.find(({ name }) => name === property)
      if (found?.value !== undefined) return found.value
      throw new QmpError(`Property '${typeOf(object)}.${String(property)}' not found`)
    },
  },
  {
    name: 'qom-set',
    args: struct({ path: str, property: str, value: any }),
    run: async (context, { path, property, value }) => {
      const object = await objectAt(context, path as string)
      if (!object.some(({ name }) => name === property)) {
        throw new QmpError(`Property '${typeOf(object)}.${String(property)}' not found`)
      }
      await context.machine.manage('setProperty', path as string, property as string, value)
    },
  },
]

/** What there can be, with what it is derived from. */
function allTypes(): { name: string; parent: string }[] {
  const machines = [...new Set(Object.values(MACHINE_KINDS))].map(({ name }) => name)
  const parents: readonly (readonly [string, readonly string[]])[] = [
    ['accel', ['kvm-accel', 'tcg-accel']],
    ['machine', [...machines, 'none' as const].map(machineTypeName)],
    ['x86_64-cpu', CPU_MODELS.map(({ name }) => cpuTypeName(name))],
    ['object', Object.keys(OBJECT_PROPERTIES)],
    ['device', deviceTypes.map(({ name }) => name)],
  ]
  return parents.flatMap(([parent, names]) => names.map((name) => ({ name, parent })))
}

/** The parents between a type and those that have no parents here. */
const ABOVE: Readonly<Record<string, readonly string[]>> = {
  'x86_64-cpu': ['cpu', 'device', 'object'],
  accel: ['object'],
  machine: ['object'],
  device: ['object'],
}

function typesOf(base: string | undefined): { name: string; parent: string }[] {
  if (base === undefined) return allTypes()
  return allTypes().filter(
    ({ name, parent }) => name === base || parent === base || (ABOVE[parent] ?? []).includes(base),
  )
}

function machineTypeName(type: QmpContext['facts']['type']): string {
  return `${type === 'none' ? type : MACHINE_KINDS[type].name}-machine`
}

function typeNamed(typename: string): DeviceType {
  const type = deviceTypes.find(({ name }) => name === typename)
  if (type !== undefined) return type
  throw new QmpError(`Device '${typename}' not found`, 'DeviceNotFound')
}

function properties(type: DeviceType): object[] {
  return type.properties.map(({ name, type: kind, help, default: value }) => ({
    name,
    description: help,
    type: kind,
    ...(value === undefined ? {} : { 'default-value': plain(kind, value) }),
  }))
}

/** What objects of a type have, which need not be devices. */
function propertiesOfType(typename: string): object[] {
  const object = OBJECT_PROPERTIES[typename]
  if (object !== undefined) return object
  if (deviceTypes.some(({ name }) => name === typename)) return properties(typeNamed(typename))
  const isBare = allTypes().some(({ name }) => name === typename)
  if (isBare) return [{ name: 'type', type: 'string' }]
  throw new QmpError(`Class '${typename}' not found`, 'DeviceNotFound')
}

/** The properties of an object. Throws `QmpError` `DeviceNotFound` when there is none. */
async function objectAt(context: QmpContext, given: string): Promise<Property[]> {
  const path = given === '/' ? '/' : given.replace(/\/+$/, '')
  const { facts } = context
  const machine = machineTypeName(facts.type)
  switch (path) {
    case '/':
      return [typed('container'), child('machine', machine), child('objects', 'container')]
    case '/objects': {
      const objects = await context.machine.manage('objects')
      return [typed('container'), ...objects.map(({ id, type }) => child(id, type))]
    }
    case '/machine':
      return [
        typed(machine),
        ...['peripheral', 'peripheral-anon', 'unattached'].map((name) => child(name, 'container')),
      ]
    case '/machine/unattached': {
      const type = cpuTypeName(facts.cpuModel)
      const names = (await unattached(context)).map((cpu) => cpu.slice(path.length + 1))
      return [typed('container'), ...names.map((name) => child(name, type))]
    }
    case '/machine/peripheral':
    case '/machine/peripheral-anon': {
      const devices = await devicesBelow(context, path)
      return [
        typed('container'),
        ...Array.from(devices, ([name, { driver }]) => child(name, driver)),
      ]
    }
  }
  const [, folder = '', name = ''] = /^(.*)\/([^/]+)$/.exec(path) ?? []
  if (folder === '/machine/unattached') {
    if ((await unattached(context)).includes(path)) {
      return [typed(cpuTypeName(facts.cpuModel)), { name: 'realized', type: 'bool', value: true }]
    }
  }
  if (folder === '/objects') return await propertiesOfObject(context, name, given)
  const option = (await devicesBelow(context, folder)).get(name)
  if (option === undefined) throw new QmpError(`Device '${given}' not found`, 'DeviceNotFound')
  const known = isCpuType(option.driver) ? CPU_PROPERTIES : typeNamed(option.driver).properties
  const live = (await context.machine.manage('properties', path)) ?? []
  return [typed(option.driver), ...known.flatMap((spec) => propertyOf(spec, option)), ...live]
}

async function propertiesOfObject(
  { machine }: QmpContext,
  id: string,
  path: string,
): Promise<Property[]> {
  const found = (await machine.manage('objects')).find((object) => object.id === id)
  if (found === undefined) throw new QmpError(`Device '${path}' not found`, 'DeviceNotFound')
  const known = OBJECT_PROPERTIES[found.type] ?? []
  const values = known.map(async ({ name, type }) => {
    const value = await machine.manage('objectProperty', id, name)
    return { name, type, ...(value === undefined ? {} : { value }) }
  })
  return [typed(found.type), ...(await Promise.all(values))]
}

/** Paths of the processors that the machine began with. */
async function unattached(context: QmpContext): Promise<string[]> {
  const paths = (await processorsOf(context)).map(({ path = '' }) => path)
  return paths.filter((path) => path.startsWith('/machine/unattached/'))
}

/** Devices with ids are below one container, those without below the other. */
async function devicesBelow(
  { machine }: QmpContext,
  folder: string,
): Promise<ReadonlyMap<string, DeviceOption>> {
  if (!folder.startsWith('/machine/peripheral')) return new Map()
  const isAnonymous = folder === '/machine/peripheral-anon'
  const devices = (await machine.devices()).filter(({ id }) => (id === undefined) === isAnonymous)
  return new Map(devices.map((option, i) => [option.id ?? `device[${i}]`, option]))
}

/** Nothing where the value is the device's own business. */
function propertyOf(
  { name, type, default: fallback }: PropertySpec,
  option: DeviceOption,
): Property[] {
  const text = option.properties[name] ?? fallback
  return text === undefined ? [] : [{ name, type, value: plain(type, text) }]
}

function typed(name: string): Property {
  return { name: 'type', type: 'string', value: name }
}

function child(name: string, type: string): Property {
  return { name, type: `child<${type}>` }
}

function typeOf([first]: readonly Property[]): string {
  return String(first?.value)
}

function plain(kind: string, value: string): string | number | boolean {
  if (kind === 'bool') return value === 'on'
  return NUMBER.test(value) ? Number(value) : value
}
