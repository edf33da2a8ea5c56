import { createBlk } from 'virtio'

import { BOOT_INDEX_PROPERTY, addBootIndex } from './boot-index.ts'
import type { DeviceType } from './device-type.ts'
import { virtioMemory } from './guest-memory.ts'
import { firmwarePath } from './pci-address.ts'
import { propertyReader } from './properties.ts'
import { virtioPciProperties, VirtioPciDevice } from './virtio-pci.ts'

const MAX_QUEUES = 64
const MAX_QUEUE_SIZE = 1024
/** What VIRTIO_BLK_T_GET_ID has room for. */
const SERIAL_BYTES = 20

export const virtioBlkPci: DeviceType = {
  name: 'virtio-blk-pci',
  bus: 'PCI',
  category: 'Storage devices',
  description: 'virtio block device',
  hotpluggable: true,
  properties: [
    { name: 'drive', type: 'str', help: 'Node name or ID of a drive to use as the disk, required' },
    { name: 'serial', type: 'str', help: 'Serial number that the guest sees' },
    {
      name: 'num-queues',
      type: 'uint16',
      help: 'Number of request queues',
      default: 'one for each vCPU',
    },
    { name: 'queue-size', type: 'uint16', help: 'Descriptors of each queue', default: '256' },
    BOOT_INDEX_PROPERTY,
    ...virtioPciProperties(),
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const queues = read.int('num-queues', 1, MAX_QUEUES, Math.min(context.cpus, MAX_QUEUES))
    const queueSize = read.int('queue-size', 2, MAX_QUEUE_SIZE, 256)
    const name = option.id ?? option.driver
    const serial = read.text('serial')?.slice(0, SERIAL_BYTES)
    const drive = context.drive(read.required('drive'), name)
    const device = createBlk({
      memory: virtioMemory(context.memory),
      backend: drive,
      queues,
      queueSize,
      onError: (error) => context.log(`${name}: ${String(error)}`),
      ...(serial === undefined ? {} : { serial }),
    })
    drive.onResized = () => device.model.resized()
    const plugged = new VirtioPciDevice(context, option, device, queues + 1)
    addBootIndex(context, option, `${firmwarePath('scsi', plugged.address)}/disk@0,0`)
    return plugged
  },
}
