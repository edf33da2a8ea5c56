// Numbers of libvirt's public interface (virDomainState and the reasons of its states, lifecycle events and their details).

export const State = {
  NOSTATE: 0,
  RUNNING: 1,
  BLOCKED: 2,
  PAUSED: 3,
  SHUTDOWN: 4,
  SHUTOFF: 5,
  CRASHED: 6,
} as const

export const RunningReason = { UNKNOWN: 0, BOOTED: 1, UNPAUSED: 5 } as const
export const PausedReason = {
  UNKNOWN: 0,
  USER: 1,
  SHUTTING_DOWN: 8,
  CRASHED: 10,
  STARTING_UP: 11,
} as const
export const ShutdownReason = { UNKNOWN: 0, USER: 1 } as const
export const ShutoffReason = {
  UNKNOWN: 0,
  SHUTDOWN: 1,
  DESTROYED: 2,
  CRASHED: 3,
  FAILED: 6,
  DAEMON: 8,
} as const
export const CrashedReason = { UNKNOWN: 0, PANICKED: 1 } as const

export const Lifecycle = {
  DEFINED: 0,
  UNDEFINED: 1,
  STARTED: 2,
  SUSPENDED: 3,
  RESUMED: 4,
  STOPPED: 5,
  SHUTDOWN: 6,
  CRASHED: 8,
} as const

/** Details of each of {@link Lifecycle}. */
export const Detail = {
  DEFINED_ADDED: 0,
  DEFINED_UPDATED: 1,
  UNDEFINED_REMOVED: 0,
  STARTED_BOOTED: 0,
  SUSPENDED_PAUSED: 0,
  RESUMED_UNPAUSED: 0,
  STOPPED_SHUTDOWN: 0,
  STOPPED_DESTROYED: 1,
  STOPPED_CRASHED: 2,
  STOPPED_FAILED: 5,
  SHUTDOWN_FINISHED: 0,
  SHUTDOWN_GUEST: 1,
  SHUTDOWN_HOST: 2,
  CRASHED_PANICKED: 0,
} as const

/** A state with its reason. */
export interface DomainState {
  state: number
  reason: number
}
