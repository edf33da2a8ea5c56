import { type ThrottleClock, ThrottleGroup } from './group.ts'
import { type ThrottleLimits, checkLimits } from './limits.ts'
import type { Throttled } from './throttled.ts'

/** The groups of a machine's drives, by their names; one without drives is forgotten. */
export class ThrottleGroups {
  readonly #groups = new Map<string, ThrottleGroup>()
  readonly #clock: ThrottleClock

  /** `nowNs` is the host's time. */
  constructor(nowNs: () => number) {
    this.#clock = {
      nowNs,
      after(ms, callback) {
        const timer = setTimeout(callback, ms)
        return () => clearTimeout(timer)
      },
    }
  }

  /**
   * Makes a drive one of a group, which has other limits from now on when some are given.
   * @throws BlockError E_BLOCK_OPTION for limits that make no sense
   */
  put(drive: Throttled, name: string, limits?: ThrottleLimits): void {
    if (limits !== undefined) checkLimits(limits)
    const group = this.#groups.get(name) ?? new ThrottleGroup(name, this.#clock)
    this.#groups.set(name, group)
    if (drive.group !== group) this.take(drive)
    drive.setGroup(group)
    this.#groups.set(name, group)
    if (limits !== undefined) group.setLimits(limits)
  }

  /** The same for one that was there before: the limits are for a group that is no more. */
  rejoin(drive: Throttled, name: string, limits?: ThrottleLimits): void {
    this.put(drive, name, this.#groups.has(name) ? undefined : limits)
  }

  /** The same, or none for a drive when there are no limits. */
  limit(drive: Throttled, name: string, limits: ThrottleLimits): void {
    checkLimits(limits)
    if (Object.values(limits.limits).some(({ average }) => average > 0)) {
      this.put(drive, name, limits)
    } else this.take(drive)
  }

  /** A drive has no limits any more. */
  take(drive: Throttled): void {
    const { group } = drive
    drive.setGroup(undefined)
    if (group !== undefined && group.size === 0) this.#groups.delete(group.name)
  }
}
