import type { DeviceDefinition } from '../device.ts'
import { VmmError } from '../errors.ts'

/** Definitions as given, and those that the modules behind URLs export. */
export async function loadDevices(
  devices: readonly (DeviceDefinition | URL)[],
): Promise<DeviceDefinition[]> {
  const loaded = await Promise.all(
    devices.map((device) => (device instanceof URL ? importDefinitions(device) : [device])),
  )
  return loaded.flat()
}

async function importDefinitions(url: URL): Promise<DeviceDefinition[]> {
  let module: Record<string, unknown>
  try {
    module = (await import(url.href)) as Record<string, unknown>
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new VmmError('E_CONFIG', `cannot load the device module ${url.href}: ${reason}`, {
      fields: { url: url.href },
      cause,
    })
  }
  // The same definition may be exported under its name and as default.
  const definitions = [...new Set(Object.values(module).filter(isDefinition))]
  if (definitions.length === 0) {
    throw new VmmError(
      'E_CONFIG',
      `the module ${url.href} exports no device; export what defineDevice returns`,
      { fields: { url: url.href } },
    )
  }
  return definitions
}

function isDefinition(value: unknown): value is DeviceDefinition {
  return (
    typeof value === 'object' &&
    value !== null &&
    'name' in value &&
    typeof value.name === 'string' &&
    'create' in value &&
    typeof value.create === 'function'
  )
}
