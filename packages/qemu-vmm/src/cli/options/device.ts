import { deviceHelp, deviceList } from '../../devices/device-help.ts'
import { deviceTypes } from '../../devices/registry.ts'
import { CPU_PROPERTIES, cpuTypeName } from '../../devices/processor.ts'
import type { DeviceOption, DeviceType } from '../../devices/device-type.ts'
import { CliError } from '../cli-error.ts'
import { CPU_MODELS } from '../cpu-models.ts'
import { parseKeyval } from '../keyval.ts'
import type { OptionSpec } from '../option.ts'
import { hint } from '../suggest.ts'

export const device: OptionSpec = {
  name: 'device',
  argument: 'driver[,id=id][,property=value...]',
  repeatable: true,
  help: ["add a device ('-device help' lists them, '-device NAME,help' its properties)"],
  apply(settings, value) {
    const read = readDevice(value, settings.devices)
    if (typeof read === 'string') return read
    settings.devices.push(read)
    return undefined
  },
}

/**
 * Reads an argument of `-device`.
 *
 * @param others devices that have ids already
 * @returns the device, or the text that was asked for
 * @throws CliError
 */
export function readDevice(value: string, others: readonly DeviceOption[]): DeviceOption | string {
  const entries = value.startsWith('{')
    ? fromJson(value)
    : parseKeyval(value, { implied: 'driver' })
  const map = new Map(entries.map(({ key, value: text }) => [key, text]))
  const name = map.get('driver')
  if (name === 'help' || name === '?') return deviceList()
  if (name === undefined) throw new CliError("Parameter 'driver' is missing")
  const type = deviceTypes.find((known) => known.name === name) ?? processor(name)
  if (type === undefined) {
    const names = deviceTypes.map((known) => known.name)
    throw new CliError(`'${name}' is not a valid device model name${hint(name, names)}`)
  }
  if (map.has('help') || map.has('?')) return deviceHelp(type)
  return option(others, type.properties, map)
}

/** A kind of processor; all of a machine are of one model, which it checks. */
function processor(driver: string): Pick<DeviceType, 'name' | 'properties'> | undefined {
  const isKnown = CPU_MODELS.some(({ name }) => cpuTypeName(name) === driver)
  return isKnown ? { name: driver, properties: CPU_PROPERTIES } : undefined
}

function option(
  others: readonly DeviceOption[],
  known: readonly { name: string }[],
  map: ReadonlyMap<string, string>,
): DeviceOption {
  const driver = map.get('driver') ?? ''
  const names = known.map((property) => property.name)
  const properties: Record<string, string> = {}
  for (const [key, text] of map) {
    if (key === 'driver' || key === 'id') continue
    if (!names.includes(key)) {
      throw new CliError(`Property '${driver}.${key}' not found${hint(key, names)}`)
    }
    properties[key] = text
  }
  const id = map.get('id')
  if (id === undefined) return { driver, properties }
  if (!/^[a-z][a-z0-9._-]*$/i.test(id)) {
    throw new CliError(`Parameter 'id' expects an identifier, not '${id}'`)
  }
  if (others.some((other) => other.id === id)) {
    throw new CliError(`Duplicate device ID '${id}'`)
  }
  return { driver, id, properties }
}

/** QEMU's other form of the argument: a JSON object. */
function fromJson(text: string): { key: string; value: string }[] {
  let object: unknown
  try {
    object = JSON.parse(text)
  } catch (error) {
    throw new CliError(`the argument is no JSON object: ${(error as Error).message}`)
  }
  return Object.entries(object as Record<string, unknown>).map(([key, value]) => {
    if (typeof value === 'boolean') return { key, value: value ? 'on' : 'off' }
    if (typeof value === 'string' || typeof value === 'number') return { key, value: String(value) }
    throw new CliError(`Parameter '${key}' expects a string, a number or a boolean`)
  })
}
