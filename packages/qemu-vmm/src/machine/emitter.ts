/** Names of the events that a machine emits. */
export type MachineEvent =
  | 'stop'
  | 'resume'
  | 'reset'
  | 'shutdown'
  | 'powerdown'
  | 'guest-panicked'
  | 'guest-crashloaded'

/** A list of listeners per event. */
export class Emitter {
  readonly #listeners = new Map<MachineEvent, Set<() => void>>()

  /** Returns a function that removes the listener. */
  on(event: MachineEvent, listener: () => void): () => void {
    let set = this.#listeners.get(event)
    if (set === undefined) {
      set = new Set()
      this.#listeners.set(event, set)
    }
    set.add(listener)
    return () => set.delete(listener)
  }

  emit(event: MachineEvent): void {
    for (const listener of this.#listeners.get(event) ?? []) listener()
  }
}
