import { createRng } from 'virtio'

import type { DeviceType } from './device-type.ts'
import { virtioMemory } from './guest-memory.ts'
import { virtioPciProperties, VirtioPciDevice } from './virtio-pci.ts'

export const virtioRngPci: DeviceType = {
  name: 'virtio-rng-pci',
  bus: 'PCI',
  category: 'Misc devices',
  description: 'virtio random number generator',
  hotpluggable: true,
  properties: [
    { name: 'rng', type: 'str', help: 'ID of an rng object', default: 'the source of the machine' },
    ...virtioPciProperties(),
  ],
  plug(context, option) {
    const name = option.id ?? option.driver
    const rng = option.properties['rng']
    const device = createRng({
      memory: virtioMemory(context.memory),
      entropy: rng === undefined ? context.entropy : context.rng(rng),
      onError: (error) => context.log(`${name}: ${String(error)}`),
    })
    return new VirtioPciDevice(context, option, device, 2)
  },
}
