import { deviceTypes } from '../../devices/registry.ts'
import { CliError } from '../cli-error.ts'
import { parseBool } from '../keyval.ts'
import { choice } from '../option.ts'
import type { OptionSpec } from '../option.ts'
import type { Settings } from '../settings.ts'
import { hint } from '../suggest.ts'

/** Properties of devices that no option plugs in. */
const BUILT_IN: Readonly<
  Record<string, (settings: Settings, value: string, property: string) => void>
> = {
  'kvm-pit.lost_tick_policy': (settings, value) => {
    settings.machineOptions.pitLostTicks = choice(
      value,
      ['delay', 'discard'] as const,
      'invalid lost tick policy',
    )
  },
  'hpet.timers': (settings, value) => {
    const timers = /^\d+$/.test(value) ? Number(value) : Number.NaN
    if (!(timers >= 3 && timers <= 32)) {
      throw new CliError(`Property 'hpet.timers' is a number from 3 to 32, not '${value}'`)
    }
    settings.machineOptions.hpetTimers = timers
  },
  'hpet.msi': (settings, value, property) => {
    settings.machineOptions.hpetMsi = parseBool(value, property)
  },
  'cfi.pflash01.secure': (settings, value, property) => {
    settings.machineOptions.secureFlash = parseBool(value, property)
  },
  'mch.smbase-smram': (settings, value, property) => {
    settings.machineOptions.smbaseSmram = parseBool(value, property)
  },
  'PIIX4_PM.disable_s3': disableS3,
  'ICH9-LPC.disable_s3': disableS3,
  'ICH9-LPC.acpi-pci-hotplug-with-bridge-support': (settings, value, property) => {
    settings.machineOptions.acpiPciHotplug = parseBool(value, property)
  },
  'PIIX4_PM.disable_s4': withoutS4,
  'ICH9-LPC.disable_s4': withoutS4,
}

/** `-global`: other defaults for the properties of devices. */
export const global: OptionSpec = {
  name: 'global',
  argument: 'driver.property=value',
  repeatable: true,
  help: [
    'default of a property for all devices of a kind (also driver=NAME,property=NAME,value=VALUE);',
    `and ${Object.keys(BUILT_IN).join(', ')}`,
  ],
  apply(settings, text) {
    const { driver, property, value } = parse(text)
    takeGlobal(settings, driver, property, value)
  },
}

/** @throws CliError for a driver or property that there is not */
export function takeGlobal(
  settings: Settings,
  driver: string,
  property: string,
  value: string,
): void {
  const builtIn = `${driver}.${property}`
  const take = Object.hasOwn(BUILT_IN, builtIn) ? BUILT_IN[builtIn] : undefined
  if (take !== undefined) return take(settings, value, property)
  const type = deviceTypes.find(({ name }) => name === driver)
  if (type === undefined) {
    const known = [
      ...deviceTypes.map(({ name }) => name),
      ...Object.keys(BUILT_IN).map((name) => name.split('.')[0]!),
    ]
    throw new CliError(`there is no device model '${driver}'${hint(driver, known)}`)
  }
  const names = type.properties.map(({ name }) => name)
  if (!names.includes(property)) {
    throw new CliError(`Property '${driver}.${property}' not found${hint(property, names)}`)
  }
  settings.globals.push({ driver, property, value })
}

function parse(text: string): { driver: string; property: string; value: string } {
  const long = /^driver=([^,]+),property=([^,]+),value=(.*)$/s.exec(text)
  const [, driver, property, value] = long ?? /^([^.=]+)\.([^=]+)=(.*)$/s.exec(text) ?? []
  if (driver !== undefined && property !== undefined && value !== undefined) {
    return { driver, property, value }
  }
  throw new CliError(`expects driver.property=value, not '${text}'`)
}

function disableS3(settings: Settings, value: string, property: string): void {
  settings.machineOptions.suspend = !isOne(value, property)
}

function withoutS4(_settings: Settings, value: string, property: string): void {
  if (!isOne(value, property)) throw new CliError('suspend to disk (S4) is not supported: use 1')
}

function isOne(value: string, property: string): boolean {
  if (value === '1' || value === '0') return value === '1'
  throw new CliError(`Property '${property}' is 0 or 1, not '${value}'`)
}
