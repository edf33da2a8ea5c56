import type { DeviceType } from './device-type.ts'
import { deviceTypes } from './registry.ts'

/** What `-device help` prints. */
export function deviceList(): string {
  const lines: string[] = []
  for (const category of new Set(deviceTypes.map((type) => type.category))) {
    if (lines.length > 0) lines.push('')
    lines.push(`${category}:`)
    for (const type of deviceTypes) {
      if (type.category !== category) continue
      lines.push(`name "${type.name}", bus ${type.bus}, desc "${type.description}"`)
    }
  }
  return lines.join('\n')
}

/** What `-device NAME,help` prints. */
export function deviceHelp(type: Pick<DeviceType, 'name' | 'properties'>): string {
  const properties = type.properties.map(({ name, type: kind, help, default: value }) => {
    const shown = value === undefined ? '' : ` (default: ${value})`
    return `  ${`${name}=<${kind}>`.padEnd(22)} - ${help}${shown}`
  })
  return [`${type.name} options:`, ...properties].join('\n')
}
