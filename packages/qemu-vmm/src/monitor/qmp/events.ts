import type { DeletedDevice } from '../../machine/device-tree.ts'
import type { MachineEvent } from '../../machine/emitter.ts'

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
    case 'device-deleted': {
      const { id, path } = detail as DeletedDevice
      return [
        { event: 'DEVICE_DELETED', data: { ...(id === undefined ? {} : { device: id }), path } },
      ]
    }
  }
}
