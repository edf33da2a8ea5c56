import type { ErrorData } from '../../errors.ts'
import type { ExitInfo, MachineConfig, MachineStatus } from '../config.ts'
import type { EventDetail, MachineEvent } from '../emitter.ts'
import type { MachineBackend } from '../backend.ts'
import type { ConnectRequest, Verdict } from '../../net/user/decision.ts'

/** Methods that cross to the worker. */
export type RemoteMethod = keyof MachineBackend

/** What the worker is started with: the configuration as far as it can be copied. */
export interface WorkerSetup {
  config: Omit<
    MachineConfig,
    'serial' | 'chardevs' | 'devices' | 'log' | 'clock' | 'entropy' | 'host'
  >
  /** Addresses of modules. */
  devices: string[]
  /** Which COM ports have a backend on the other side. */
  serial: boolean[]
  /** Ids of character devices; in messages their numbers follow those of the COM ports. */
  chardevs: string[]
  /** Ids of networks whose hook is on the other side. */
  connectHooks: string[]
}

/** Bytes that may be under way to the outside before the other side has taken them. */
export const OUTPUT_WINDOW_BYTES: number = 64 * 1024
/** Bytes that may be under way to the guest. */
export const INPUT_WINDOW_BYTES = 4096

/** Messages to the worker. */
export type ToWorker =
  | { type: 'call'; id: number; method: RemoteMethod; args: unknown[] }
  | { type: 'serial-in'; port: number; data: Uint8Array }
  | { type: 'serial-break'; port: number }
  /** The outside has taken this many bytes. */
  | { type: 'serial-credit'; port: number; bytes: number }
  /** What a hook decided. Descriptors are those of the process. */
  | { type: 'connect-verdict'; id: number; verdict: Verdict }

/** Messages from the worker. */
export type FromWorker =
  | { type: 'created' }
  | { type: 'failed'; error: ErrorData }
  | { type: 'result'; id: number; value: unknown }
  | { type: 'error'; id: number; error: ErrorData }
  | { type: 'status'; status: MachineStatus }
  | { type: 'event'; event: MachineEvent; detail?: EventDetail<MachineEvent> }
  | { type: 'exited'; info: Omit<ExitInfo, 'error'>; error?: ErrorData }
  | { type: 'log'; message: string }
  | { type: 'serial-out'; port: number; data: Uint8Array }
  /** The guest has taken this many bytes. */
  | { type: 'serial-room'; port: number; bytes: number }
  | { type: 'connect-request'; id: number; request: ConnectRequest }
