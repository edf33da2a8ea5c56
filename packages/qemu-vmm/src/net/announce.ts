import { FrameBatch, MAX_FRAME_BYTES, recordBytes } from 'virtio'
import { VmmError } from '../errors.ts'

/** How cards announce themselves, with the names and meanings of QAPI's `AnnounceParameters`. */
export interface Announcement {
  /** Milliseconds before the second round. */
  readonly initial: number
  /** The longest pause in milliseconds. */
  readonly max: number
  readonly rounds: number
  /** Milliseconds by which each pause is longer than the one before. */
  readonly step: number
  /** The cards, by name; all where there are none. */
  readonly cards?: readonly string[]
  /** Of several that go on side by side; one replaces another of its name. */
  readonly id?: string
}

/** QEMU's defaults. */
export const DEFAULT_ANNOUNCEMENT: Announcement = { initial: 50, max: 550, rounds: 5, step: 100 }

/** The largest values that QEMU lets these parameters of a migration have. */
const LIMITS = { initial: 100_000, max: 100_000, rounds: 1000, step: 10_000 } as const
/** At most so many under way. */
const MAX_RUNS = 64

/** Runs a function after so many milliseconds; the result stops that. */
export type Later = (ms: number, fn: () => void) => () => void

/** Time of the host. */
export const hostLater: Later = (ms, fn) => {
  const timer = setTimeout(fn, ms).unref()
  return () => clearTimeout(timer)
}

/** Has cards announce themselves, a few times, as the first frames may be lost. */
export class Announcer {
  readonly #announce: (cards: readonly string[]) => void
  /** What stops each, by its name. */
  readonly #runs = new Map<string, () => void>()

  /** `announce` does it once, for cards with these names, or for all. */
  constructor(announce: (cards: readonly string[]) => void) {
    this.#announce = announce
  }

  /**
   * Begins at once, or as soon as `later` lets it.
   * @throws VmmError `E_NETDEV` for values that are out of range
   */
  start(announcement: Announcement, later: Later = hostLater): void {
    for (const [name, limit] of Object.entries(LIMITS)) {
      const value = announcement[name as keyof typeof LIMITS]
      if (Number.isInteger(value) && value >= 0 && value <= limit) continue
      throw refused(`Parameter '${name}' is ${value}: it can be 0 to ${limit}`)
    }
    const { id = '', rounds } = announcement
    this.#runs.get(id)?.()
    this.#runs.delete(id)
    if (rounds === 0) return
    if (this.#runs.size === MAX_RUNS) {
      throw refused(`${MAX_RUNS} announcements are under way: let one end, or give its 'id'`)
    }
    this.#next(announcement, 0, 0, later)
  }

  stop(): void {
    for (const stop of this.#runs.values()) stop()
    this.#runs.clear()
  }

  /** Waits for the round behind those that are done. */
  #next(announcement: Announcement, done: number, ms: number, later: Later): void {
    const { id = '', cards = [], initial, max, rounds, step } = announcement
    const stop = later(ms, () => {
      this.#runs.delete(id)
      this.#announce(cards)
      const pause = Math.min(initial + done * step, max)
      if (done + 1 < rounds) this.#next(announcement, done + 1, pause, later)
    })
    this.#runs.set(id, stop)
  }
}

/**
 * The frame by which switches learn where an address is now: a request of RFC 903 (RARP) for the address of its sender, to all.
 * `mac` are six numbers.
 */
export function announcementFrame(mac: readonly number[]): FrameBatch {
  const batch = new FrameBatch(recordBytes(MAX_FRAME_BYTES))
  const all = [255, 255, 255, 255, 255, 255]
  // Ethernet and IPv4 with addresses of 6 and 4 bytes, 3 is the request; no IP address is known.
  const request = [0, 1, 8, 0, 6, 4, 0, 3, ...mac, 0, 0, 0, 0, ...mac, 0, 0, 0, 0]
  const frame = new Uint8Array(60)
  frame.set([...all, ...mac, 0x80, 0x35, ...request])
  batch.push(frame)
  return batch
}

function refused(message: string): VmmError {
  return new VmmError('E_NETDEV', message)
}
