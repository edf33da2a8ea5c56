import type { TrayMoved } from './block-backend.ts'
import type { OstDetail } from './cpu-places.ts'
import type { DeletedDevice } from './device-tree.ts'

/** What listeners are told beside that it happened. */
export interface EventDetails {
  /** Whether the guest asked for it. */
  reset: { guest: boolean }
  /** The guest has switched the machine off, or has reset it where that ends it. */
  shutdown: { reason: 'guest-shutdown' | 'guest-reset' }
  /** What becomes of the machine. */
  'guest-panicked': { action: 'pause' | 'poweroff' | 'run' }
  'device-deleted': DeletedDevice
  /** Bytes that the guest has now. */
  'balloon-change': { actual: number }
  /** Seconds by which the clock is ahead of what it would show if nobody had set it. */
  'rtc-change': { offset: number }
  'tray-moved': TrayMoved
  'acpi-ost': OstDetail
}

/** Names of the events that a machine emits. */
export type MachineEvent =
  | 'stop'
  | 'resume'
  | 'reset'
  | 'shutdown'
  | 'powerdown'
  | 'guest-panicked'
  | 'guest-crashloaded'
  /** A device that the guest was asked to let go of, or has ejected by itself, is gone. */
  | 'device-deleted'
  /** The guest has given memory back, or has taken some. */
  | 'balloon-change'
  /** The guest has said what it made of a processor that came, or that is to go (`_OST`). */
  | 'acpi-ost'
  /** The guest has set its real-time clock. */
  | 'rtc-change'
  /** The tray of a CD drive was opened or closed. */
  | 'tray-moved'

/** What an event's listener is called with. */
export type EventDetail<E extends MachineEvent> = E extends keyof EventDetails
  ? EventDetails[E]
  : undefined

/** A list of listeners per event. */
export class Emitter {
  readonly #listeners = new Map<MachineEvent, Set<(detail: never) => void>>()

  /** Returns a function that removes the listener. */
  on<E extends MachineEvent>(event: E, listener: (detail: EventDetail<E>) => void): () => void {
    let set = this.#listeners.get(event)
    if (set === undefined) {
      set = new Set()
      this.#listeners.set(event, set)
    }
    set.add(listener)
    return () => set.delete(listener)
  }

  emit(event: MachineEvent, detail?: EventDetail<MachineEvent>): void {
    for (const listener of this.#listeners.get(event) ?? []) listener(detail as never)
  }
}
