import { flag, int, parseState } from '../../machine/state.ts'

/** Media events (MMC-5, table 318). */
const EVENT_NONE = 0
const EVENT_EJECT_REQUEST = 1
const EVENT_NEW_MEDIA = 2
const EVENT_MEDIA_REMOVAL = 3

/** What the next command is told that needs the medium. */
export type MediumChange = 'none' | 'was out' | 'is another'
const CHANGES: readonly MediumChange[] = ['none', 'was out', 'is another']

export interface TrayState {
  locked: boolean
  trayOpen: boolean
  /** What GET EVENT STATUS NOTIFICATION tells next. */
  event: number
  /** 1 while the guest is to see that the medium was out, 2 that another may be in. */
  changed: number
}

/** The tray of a CD drive, and what the guest has still to hear of it. */
export class Tray {
  isOpen = false
  /** The guest keeps it closed. */
  isLocked = false
  #event = EVENT_NONE
  #change: MediumChange = 'none'

  /** After power-on. */
  reset(): void {
    this.isOpen = false
    this.isLocked = false
    this.#event = EVENT_NONE
    this.#change = 'none'
  }

  /**
   * Opens or closes it.
   *
   * @param byHost guests that do not ask for events see by errors that the medium was out, too
   */
  move(open: boolean, hasMedium: boolean, byHost: boolean): void {
    this.isOpen = open
    this.#change = open || !hasMedium ? 'none' : byHost ? 'was out' : 'is another'
    this.#event = !hasMedium ? EVENT_NONE : open ? EVENT_MEDIA_REMOVAL : EVENT_NEW_MEDIA
  }

  /** The host wants the medium; with `force` the lock is gone. */
  requestEject(force: boolean): void {
    this.#event = EVENT_EJECT_REQUEST
    if (force) this.isLocked = false
  }

  /** What is to be told of the medium, once. */
  takeChange(): MediumChange {
    const change = this.#change
    this.#change = change === 'was out' ? 'is another' : 'none'
    return change
  }

  /** The event that is to be told, once. */
  takeEvent(): number {
    const event = this.#event
    this.#event = EVENT_NONE
    return event
  }

  save(): TrayState {
    return {
      locked: this.isLocked,
      trayOpen: this.isOpen,
      event: this.#event,
      changed: CHANGES.indexOf(this.#change),
    }
  }

  load(state: unknown): void {
    const saved = parseState<TrayState>('ide-cd', state, {
      locked: flag,
      trayOpen: flag,
      event: int(EVENT_NONE, EVENT_MEDIA_REMOVAL),
      changed: int(0, CHANGES.length - 1),
    })
    this.isLocked = saved.locked
    this.isOpen = saved.trayOpen
    this.#event = saved.event
    this.#change = CHANGES[saved.changed]!
  }
}
