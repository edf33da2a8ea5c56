/** Events of which QEMU sends one in a second at most, and the last one in any case. */
const LIMITED: ReadonlySet<string> = new Set(['BALLOON_CHANGE', 'RTC_CHANGE'])
const INTERVAL_MS = 1000

/** Holds back events that come too often. */
export class EventThrottle<Entry extends { event: string }> {
  readonly #send: (entry: Entry) => void
  /** What is to be sent at the end of the interval, by name; absent where nothing is held. */
  readonly #held = new Map<string, Entry | undefined>()
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor(send: (entry: Entry) => void) {
    this.#send = send
  }

  add(entry: Entry): void {
    const { event } = entry
    if (!LIMITED.has(event)) this.#send(entry)
    else if (this.#held.has(event)) this.#held.set(event, entry)
    else {
      this.#send(entry)
      this.#hold(event)
    }
  }

  /** Forgets what is held. */
  close(): void {
    for (const timer of this.#timers) clearTimeout(timer)
    this.#timers.clear()
    this.#held.clear()
  }

  #hold(event: string): void {
    this.#held.set(event, undefined)
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      const entry = this.#held.get(event)
      this.#held.delete(event)
      if (entry === undefined) return
      this.#send(entry)
      this.#hold(event)
    }, INTERVAL_MS).unref()
    this.#timers.add(timer)
  }
}
