import type { TrayMoved } from '../../machine/block-backend.ts'
import type { OstDetail } from '../../machine/cpu-places.ts'
import type { DeletedDevice } from '../../machine/device-tree.ts'
import type { MachineEvent } from '../../machine/emitter.ts'
import { bool, int, oneOf, str, struct } from './types.ts'
import type { QmpObject } from './types.ts'

const SHUTDOWN_CAUSES = oneOf([
  'guest-reset',
  'guest-shutdown',
  'host-qmp-quit',
  'host-qmp-system-reset',
])
const PANICKED = struct({ action: oneOf(['pause', 'poweroff', 'run']) })
const ENDED = struct({ guest: bool, reason: SHUTDOWN_CAUSES })

/** What a guest has said of an event of a processor. */
export const OSPM_STATUS: QmpObject = struct({
  'device?': str,
  slot: str,
  'slot-type': oneOf(['DIMM', 'CPU']),
  source: int,
  status: int,
})

/** {@link OSPM_STATUS} of what a machine tells. */
export function ospmStatus({ slot, ...rest }: OstDetail): object {
  return { ...rest, 'slot-type': 'CPU', slot: String(slot) }
}

/** All events by name, with what they tell. */
export const QMP_EVENTS: Readonly<Record<string, QmpObject>> = {
  STOP: struct({}),
  RESUME: struct({}),
  POWERDOWN: struct({}),
  RESET: ENDED,
  SHUTDOWN: ENDED,
  GUEST_PANICKED: PANICKED,
  GUEST_CRASHLOADED: PANICKED,
  DEVICE_DELETED: struct({ 'device?': str, path: str }),
  BALLOON_CHANGE: struct({ actual: int }),
  RTC_CHANGE: struct({ offset: int, 'qom-path': str }),
  ACPI_DEVICE_OST: struct({ info: OSPM_STATUS }),
  DEVICE_TRAY_MOVED: struct({ device: str, id: str, 'tray-open': bool }),
}

/** What QEMU's boards call their clock for everybody. */
const RTC_PATH = '/machine/rtc'

/** An event without its time. */
export interface QmpEvent {
  event: string
  data?: object
}

/** What an event of the machine is in QMP. */
export function eventsOf(event: MachineEvent, detail: unknown): QmpEvent[] {
  switch (event) {
    case 'stop':
      return [{ event: 'STOP' }]
    case 'resume':
      return [{ event: 'RESUME' }]
    case 'powerdown':
      return [{ event: 'POWERDOWN' }]
    case 'reset': {
      const { guest } = detail as { guest: boolean }
      const reason = guest ? 'guest-reset' : 'host-qmp-system-reset'
      return [{ event: 'RESET', data: { guest, reason } }]
    }
    case 'shutdown': {
      const { reason } = detail as { reason: string }
      return [{ event: 'SHUTDOWN', data: { guest: true, reason } }]
    }
    case 'guest-panicked': {
      const { action } = detail as { action: string }
      return [{ event: 'GUEST_PANICKED', data: { action } }]
    }
    case 'guest-crashloaded':
      return [{ event: 'GUEST_CRASHLOADED', data: { action: 'run' } }]
    case 'balloon-change':
      return [{ event: 'BALLOON_CHANGE', data: detail as object }]
    case 'rtc-change': {
      const { offset } = detail as { offset: number }
      return [{ event: 'RTC_CHANGE', data: { offset, 'qom-path': RTC_PATH } }]
    }
    case 'acpi-ost':
      return [{ event: 'ACPI_DEVICE_OST', data: { info: ospmStatus(detail as OstDetail) } }]
    case 'tray-moved': {
      const { device, id, isOpen } = detail as TrayMoved
      return [{ event: 'DEVICE_TRAY_MOVED', data: { device, 'tray-open': isOpen, id } }]
    }
    case 'device-deleted': {
      const { id, path } = detail as DeletedDevice
      return [
        { event: 'DEVICE_DELETED', data: { ...(id === undefined ? {} : { device: id }), path } },
      ]
    }
  }
}
