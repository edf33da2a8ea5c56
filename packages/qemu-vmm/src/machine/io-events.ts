import type { IoEventFd, IoEventFdRange, Vm } from 'kvm-core'

/** What a guest write does that signals instead of exiting. */
export interface IoEventBinding {
  /** An eventfd that is signalled as well, opened when it is asked for. */
  readonly fd: number
  /** Has the eventfd alone signalled, or not. */
  setApart(apart: boolean): void
  close(): void
}

/** kvm-core's bitmap has so many bits. */
const MAX_IDS = 4096

/** Gives ids to ioeventfds and calls whom they belong to. */
export class IoEvents {
  readonly #vm: Pick<Vm, 'ioeventfd'>
  readonly #handlers: ((() => void) | undefined)[] = []
  readonly #free: number[] = []

  constructor(vm: Pick<Vm, 'ioeventfd'>) {
    this.#vm = vm
  }

  /**
   * Calls `fn` after each write to `range`. Undefined when there are as many as there can be, or
   * the range has one already, as a guest may arrange: such writes exit as all others do.
   */
  bind(range: IoEventFdRange, fn: () => void): IoEventBinding | undefined {
    const id = this.#free.pop() ?? this.#handlers.length
    if (id >= MAX_IDS) return undefined
    let event: IoEventFd
    try {
      event = this.#vm.ioeventfd(range, id)
    } catch {
      this.#release(id)
      return undefined
    }
    this.#handlers[id] = fn
    return {
      get fd() {
        return event.fd
      },
      setApart: (apart) => event.setApart(apart),
      close: () => {
        event.close()
        this.#release(id)
      },
    }
  }

  /** An ioeventfd was signalled; one that is closed by now is ignored. */
  signalled(id: number): void {
    this.#handlers[id]?.()
  }

  #release(id: number): void {
    this.#handlers[id] = undefined
    this.#free.push(id)
  }
}
