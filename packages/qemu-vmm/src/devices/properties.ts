import { VmmError } from '../errors.ts'
import type { DeviceOption } from './device-type.ts'

/** Reads the typed properties of an option. All throw `E_DEVICE_OPTION` for what cannot be. */
export interface PropertyReader {
  text(name: string): string | undefined
  required(name: string): string
  int(name: string, min: number, max: number, otherwise: number): number
  bool(name: string, otherwise: boolean): boolean
}

export function propertyReader({ driver, properties }: DeviceOption): PropertyReader {
  const bad = (name: string, value: string, what: string): VmmError =>
    new VmmError(
      'E_DEVICE_OPTION',
      `Property '${driver}.${name}' doesn't take value '${value}': it is ${what}`,
      { fields: { device: driver, property: name, value } },
    )
  return {
    text: (name) => properties[name],
    required(name) {
      const value = properties[name]
      if (value !== undefined && value !== '') return value
      throw new VmmError('E_DEVICE_OPTION', `${driver} needs the property '${name}'`, {
        fields: { device: driver, property: name },
      })
    },
    int(name, min, max, otherwise) {
      const value = properties[name]
      if (value === undefined) return otherwise
      const number = /^(0x[0-9a-f]+|-?\d+)$/i.test(value) ? Number(value) : Number.NaN
      if (number >= min && number <= max) return number
      throw bad(name, value, `a number from ${min} to ${max}`)
    },
    bool(name, otherwise) {
      const value = properties[name]
      if (value === undefined) return otherwise
      if (['on', 'yes', 'true', 'y'].includes(value)) return true
      if (['off', 'no', 'false', 'n'].includes(value)) return false
      throw bad(name, value, 'on or off')
    },
  }
}
