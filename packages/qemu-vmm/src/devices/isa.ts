import type { DeviceDefinition } from '../device.ts'
import { mapCustomDevice } from '../machine/custom-device.ts'
import { deviceMemory } from '../machine/guest-view.ts'
import type { DeviceOption, PluggedDevice } from './device-type.ts'
import type { PlugContext } from './plug-context.ts'

/** Creates a device at fixed ports from its definition and puts it on the bus. */
export function plugIsa(
  context: PlugContext,
  option: DeviceOption,
  definition: DeviceDefinition,
): PluggedDevice {
  const { bus, irqs, memory, clock, entropy, exit } = context
  const name = option.id ?? option.driver
  return mapCustomDevice(
    bus,
    irqs,
    { ...definition, name },
    {
      ram: deviceMemory(memory),
      clock,
      entropy,
      exit,
      log: (message) => context.log(`${name}: ${message}`),
    },
  )
}
