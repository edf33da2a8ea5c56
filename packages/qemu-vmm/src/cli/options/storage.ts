import { flagOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'
import { blockdev } from './blockdev.ts'
import { device } from './device.ts'
import { drive } from './drive.ts'
import { legacyDrives } from './legacy-drive.ts'

export const storage: OptionGroup = {
  title: 'Disks and devices',
  page: 'cli-disks.md',
  options: [
    drive,
    ...legacyDrives,
    blockdev,
    flagOption(
      'snapshot',
      ['all drives write to temporary files, not to their images'],
      (settings) => {
        settings.snapshot = true
      },
    ),
    device,
  ],
}
