import type { FrameBatch, LinkEnd, LinkSide } from 'virtio'

import { VmmError } from '../../errors.ts'
import type { NativeUserState } from '../../native/usernet.ts'
import type { ForwardChange, UserNetConfig } from './config.ts'
import { USER_NET_ACCEPTS, USER_NET_MAX_FRAME, UserNet } from './user-net.ts'
import type { UserNetHost } from './user-net.ts'
import { NO_USER_STATE, checkUserState } from './user-state.ts'

/**
 * A network in user mode that begins with the guest's first frame: most machines have one because nobody said otherwise, and
 * never use it. Nothing of the host leads into it, or it would have to be there before.
 */
export class LazyUserNet implements LinkEnd {
  readonly accepts: number = USER_NET_ACCEPTS
  readonly maxFrame: number = USER_NET_MAX_FRAME
  readonly #config: UserNetConfig
  readonly #host: UserNetHost
  readonly #side: LinkSide
  #net: UserNet | undefined
  #isOver = false

  constructor(config: UserNetConfig, side: LinkSide, host: UserNetHost) {
    this.#config = config
    this.#host = host
    this.#side = side
    side.attach(this)
  }

  receive(batch: FrameBatch, from: number): number {
    const net = this.#begin()
    return net === undefined ? batch.used : net.receive(batch, from)
  }

  resume(): void {}

  linkChanged(): void {}

  save(): NativeUserState {
    return this.#net?.save() ?? { ...NO_USER_STATE }
  }

  /**
   * Begins for a state that says something of a guest.
   * @throws VmmError E_STATE for what is no state, and nothing is changed then
   */
  load(state: unknown): void {
    const { leases, connections } = checkUserState(this.#config.id, state)
    if (connections.length === 0 && leases.every((lease) => lease === '') && !this.#net) return
    const net = this.#net ?? this.#begin()
    net?.load(state)
  }

  /**
   * Begins with the first port that leads to the guest.
   * @throws VmmError as {@link UserNet.changeForwards}
   */
  changeForwards(change: ForwardChange): void {
    const net = this.#net ?? this.#begin()
    if (net === undefined) {
      throw new VmmError('E_NETDEV', `the network ${this.#config.id} could not begin`, {
        fields: { id: this.#config.id },
      })
    }
    net.changeForwards(change)
  }

  close(): void {
    if (this.#net !== undefined) this.#net.close()
    else if (!this.#isOver) this.#side.detach()
    this.#isOver = true
  }

  /** Puts the network in its own place; undefined when the host does not give it. */
  #begin(): UserNet | undefined {
    if (this.#isOver) return undefined
    try {
      const net = new UserNet(this.#config, this.#host)
      this.#side.detach()
      net.attach(this.#side)
      this.#net = net
      this.#isOver = true
      return net
    } catch (error) {
      // The guest runs: it has a cable to nowhere.
      const reason = error instanceof Error ? error.message : String(error)
      this.#host.report(`the network ${this.#config.id} cannot begin: ${reason}`)
      this.#side.detach()
      this.#isOver = true
      return undefined
    }
  }
}
