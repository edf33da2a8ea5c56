import { textIn } from './qmp.ts'
import type { QmpEvent } from './qmp.ts'

/** What happens to a domain besides its life: changes that clients can wait for. */
export type Notice =
  | { kind: 'device-added' | 'device-removed' | 'device-removal-failed'; alias: string }
  /** KiB that the guest has now. */
  | { kind: 'balloon'; kib: number }
  /** `type` is of virDomainMetadataType. */
  | { kind: 'metadata'; type: number; uri: string | undefined }
  | { kind: 'medium'; alias: string; from: string | undefined; to: string | undefined }
  /** Seconds that the guest's clock is ahead of UTC, or of what it showed at the start. */
  | { kind: 'clock'; offset: bigint }
  /** A setting, such as `cputune.vcpupin0`, and what it is now. */
  | { kind: 'tunable'; field: string; value: string }
  | { kind: 'tray'; alias: string; isOpen: boolean }

/** What an event of the emulator's tells as it is; undefined for one that is more, or nothing. */
export function noticeOf(event: string, data: QmpEvent['data']): Notice | undefined {
  switch (event) {
    case 'DEVICE_TRAY_MOVED':
      return { kind: 'tray', alias: textIn(data, 'id'), isOpen: data?.['tray-open'] === true }
    case 'DEVICE_UNPLUG_GUEST_ERROR':
      return { kind: 'device-removal-failed', alias: textIn(data, 'device') }
    default:
      return undefined
  }
}
