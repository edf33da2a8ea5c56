import { VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_F_VERSION_1 } from '../../constants.ts'
import type { DeviceContext } from '../../model.ts'
import type { LinkSide } from '../../net/link.ts'
import type {
  LentPositions,
  LentQueue,
  QueueLink,
  ReturnedRings,
  RingLoan,
  RingServer,
} from '../../net/ring-loan.ts'
import type { QueueFeatures, Virtqueue } from '../../queue/virtqueue.ts'
import type { VirtqueueState } from '../../queue/queue-state.ts'

const FOUR_GIB = 2 ** 32

interface Lent {
  readonly server: RingServer
  readonly queues: readonly [Virtqueue, Virtqueue]
  readonly states: readonly [VirtqueueState, VirtqueueState]
  readonly links: readonly [QueueLink, QueueLink]
  readonly features: QueueFeatures
}

/** What the model knows of its driver. */
export type DriverTerms = Pick<
  RingLoan,
  'mergeable' | 'checksums' | 'offloads' | 'mac' | 'unicast' | 'broadcast'
>

/**
 * Lends the data queues of a card with one pair of them to the other end of its link, where that serves them itself. A queue that
 * is lent is as one that was saved: it goes on when the positions are loaded.
 */
export class NetLender {
  readonly #side: LinkSide
  readonly #calls: unknown
  #lent: Lent | undefined

  /** `calls` is by what native code reaches the machine; without it nothing is lent. */
  constructor(side: LinkSide, calls: unknown) {
    this.#side = side
    this.#calls = calls
  }

  get isLent(): boolean {
    return this.#lent !== undefined
  }

  /** Lends the first pair of queues, if it can be; `strange` is called when they have to come back. */
  begin(context: DeviceContext, terms: () => DriverTerms, strange: () => void): void {
    const [rx, tx] = context.queues
    const peer = this.#side.peer.end
    if (this.#lent !== undefined || this.#calls === undefined) return
    if (peer?.serveRings === undefined || peer.canServeRings !== true) return
    if (!this.#side.link.up || this.#side.link.isObserved) return
    if (!rx?.ready || !tx?.ready || rx.inFlight + tx.inFlight > 0) return
    if (!context.running || !context.hasFeature(VIRTIO_F_VERSION_1)) return
    const states = [rx.save(), tx.save()] as const
    // A chain that was popped and left is before those in the ring.
    if (states.some(({ inFlight }) => inFlight.length > 0)) return
    const links = this.#links(context, rx, tx)
    if (links === undefined) return
    const features = {
      eventIdx: context.hasFeature(VIRTIO_F_EVENT_IDX),
      indirect: context.hasFeature(VIRTIO_F_INDIRECT_DESC),
    }
    const loan = {
      ...terms(),
      ...features,
      rx: lentQueue(states[0], links[0]),
      tx: lentQueue(states[1], links[1]),
      calls: this.#calls,
    }
    const server = peer.serveRings(loan, strange)
    if (server === undefined) {
      for (const link of links) link.end(0)
      // Who kicked meanwhile was not heard.
      for (const queue of [rx, tx]) context.again(queue)
    } else this.#lent = { server, queues: [rx, tx], states, links, features }
  }

  /** Has them looked at; false when they are not lent. */
  kick(): boolean {
    if (this.#lent === undefined) return false
    this.#lent.server.kick()
    return true
  }

  /** Takes the queues back; undefined when they are not lent. Throws for a queue that cannot go on. */
  end(): ReturnedRings | undefined {
    const lent = this.#lent
    if (lent === undefined) return undefined
    this.#lent = undefined
    const returned = lent.server.end()
    lent.links[0].end(0)
    lent.links[1].end(returned.kicks)
    const { counters, peer } = this.#side
    counters.frames += returned.sent
    counters.bytes += returned.sentBytes
    peer.counters.frames += returned.received
    peer.counters.bytes += returned.receivedBytes
    for (const i of [0, 1] as const) {
      const queue = lent.queues[i]
      // One that was reset meanwhile begins anew.
      if (!queue.ready) continue
      const [lastAvail, usedIdx, signalled]: LentPositions = i === 0 ? returned.rx : returned.tx
      queue.load({ ...lent.states[i], lastAvail, usedIdx, signalled }, lent.features)
    }
    return returned
  }

  #links(context: DeviceContext, rx: Virtqueue, tx: Virtqueue): [QueueLink, QueueLink] | undefined {
    const first = context.lendQueue(rx.index)
    if (first === undefined) return undefined
    const second = context.lendQueue(tx.index)
    if (second !== undefined) return [first, second]
    first.end(0)
    return undefined
  }
}

function lentQueue(state: VirtqueueState, link: QueueLink): LentQueue {
  const { size, lastAvail, usedIdx, signalled } = state
  const [d0 = 0, d1 = 0, a0 = 0, a1 = 0, u0 = 0, u1 = 0] = state.address
  return {
    size,
    desc: d1 * FOUR_GIB + d0,
    avail: a1 * FOUR_GIB + a0,
    used: u1 * FOUR_GIB + u0,
    lastAvail,
    usedIdx,
    signalled,
    kickFd: link.kickFd,
    address: link.address,
    data: link.data,
  }
}
