import type { BackendInfo } from '../../machine/block-backend.ts'
import type { DriveInfo } from '../../machine/drive.ts'
import type { MonitoredMachine } from '../command.ts'

/** What a device has, with its medium. */
export interface BlockDevice {
  backend: BackendInfo
  medium: DriveInfo | undefined
}

/** What devices have of drives; a node of -blockdev that none has is no block device yet. */
export async function blockDevices(
  machine: Pick<MonitoredMachine, 'drives' | 'manage'>,
): Promise<BlockDevice[]> {
  const drives = await machine.drives()
  const backends = await machine.manage('blockBackends')
  return backends.map((backend) => ({
    backend,
    medium: drives.find(({ id }) => id === backend.node),
  }))
}
