import { VirtioError } from '../errors.ts'
import { DEFAULT_BATCH_BYTES, FrameBatch } from './frame-batch.ts'
import type { RingLoan, RingServer } from './ring-loan.ts'

/** What a network card lets through, for `query-rx-filter`. */
export interface RxFilter {
  promiscuous: boolean
  /** None of those kinds, those in the table, or all. */
  unicast: 'none' | 'normal' | 'all'
  multicast: 'none' | 'normal' | 'all'
  broadcastAllowed: boolean
  unicastOverflow: boolean
  multicastOverflow: boolean
  mainMac: string
  unicastTable: string[]
  multicastTable: string[]
  /** VLAN identifiers that are let through; `undefined` for all. */
  vlanTable: number[] | undefined
}

/** A network card, or what it is connected to: what one end of a link does. */
export interface LinkEnd {
  /**
   * Offers the records `[from, batch.used)`. Returns the offset of the first that was not taken, `batch.used` when all
   * were: the sender keeps the rest, and offers it again when this end has called `ready` of its side. Synchronous; the
   * batch is the caller's again on return. May send frames of its own meanwhile.
   */
  receive(batch: FrameBatch, from: number): number
  /** The other end takes frames again, after its `receive` left some. */
  resume(): void
  /** What this end can take in headers: `ACCEPTS_…` bits. Others are never sent to it. */
  readonly accepts: number
  /** Longest frame that this end takes, without segmentation. */
  readonly maxFrame: number
  /** The link went up or down. Also told when the end is attached to a link that is down. */
  linkChanged(up: boolean): void
  /** The other end accepts other things now, came or went. */
  peerChanged?(): void
  /** Whether `serveRings` would serve queues now: asked first, because a kick between the two is nobody's. */
  readonly canServeRings?: boolean
  /** Serves the queues of the card at the other end by itself, until that ends it; `strange` is called when it has to. */
  serveRings?(loan: RingLoan, strange: () => void): RingServer | undefined
  /** Takes back queues that it has lent: the link or the other end changes. */
  yieldRings?(): void
  /** A network card's filter. */
  rxFilter?(): RxFilter
  /** A network card asks its driver to tell the network where it is now, if that can do so. */
  announce?(): void
}

/** Frames and bytes from one side of a link to the other. */
export interface LinkCounters {
  frames: number
  bytes: number
  /** Frames that nobody took, because the link was down or had one end only. */
  dropped: number
}

/**
 * Hears the frames of a link as they are taken: those of `batch` from `from` up to `to`. An answer that the other end
 * gives from within its `receive` is heard after what it answers.
 */
export type LinkObserver = (side: LinkSide, batch: FrameBatch, from: number, to: number) => void

/** What stands in the way of the frames of one side of a link, and lets them through in its own time. */
export interface LinkGate {
  /** Takes the records `[from, batch.used)` as an end does; those that may go on it gives to its passage. */
  take(batch: FrameBatch, from: number): number
  /** What is behind it takes frames again. */
  ready(): void
}

/** The way on, for a gate. */
export interface LinkPassage {
  /** Passes the records `[from, batch.used)` on; the result is that of `receive`. */
  pass(batch: FrameBatch, from: number): number
  /** The gate takes frames again: the sender offers what it kept. */
  wake(): void
}

/**
 * A cable: two sides, an end at each, such as a network card and a back end. It stays when an end comes or goes. Frames
 * to a side without an end, or over a link that is down, are dropped, as a cable would.
 */
export class Link {
  readonly a: LinkSide
  readonly b: LinkSide
  #up = true
  readonly #observers: LinkObserver[] = []

  constructor() {
    this.a = new LinkSide(this, this.#observers)
    this.b = new LinkSide(this, this.#observers)
    this.a.peer = this.b
    this.b.peer = this.a
  }

  /** A link with both ends. */
  static connect(a: LinkEnd, b: LinkEnd): Link {
    const link = new Link()
    link.a.attach(a)
    link.b.attach(b)
    return link
  }

  get up(): boolean {
    return this.#up
  }

  /** Somebody hears the frames, or stands in their way. */
  get isObserved(): boolean {
    return this.#observers.length > 0 || this.a.hasGates || this.b.hasGates
  }

  /**
   * Puts a gate in the way of what `side` sends, behind those that are there; the returned function takes it away. What it
   * keeps then it should have passed on.
   */
  addGate(side: LinkSide, gate: (passage: LinkPassage) => LinkGate): () => void {
    this.#yieldRings()
    return side.putGate(gate)
  }

  /** Pulls the cable out, or puts it in again. Both ends are told of a change. */
  setUp(up: boolean): void {
    if (up === this.#up) return
    this.#yieldRings()
    this.#up = up
    for (const side of [this.a, this.b]) side.end?.linkChanged(up)
    // What an end kept while it waited for the other goes on, into the void at least.
    for (const side of [this.a, this.b]) side.ready()
  }

  /** Tells of all frames that are taken from now on; the returned function ends that. */
  observe(observer: LinkObserver): () => void {
    this.#yieldRings()
    this.#observers.push(observer)
    return () => {
      const at = this.#observers.indexOf(observer)
      if (at >= 0) this.#observers.splice(at, 1)
    }
  }

  #yieldRings(): void {
    for (const side of [this.a, this.b]) side.end?.yieldRings?.()
  }
}

/** One side of a {@link Link}: by it the end that is attached there sends. */
export class LinkSide {
  readonly link: Link
  /** The other side. */
  peer!: LinkSide
  end: LinkEnd | undefined = undefined
  readonly counters: LinkCounters = { frames: 0, bytes: 0, dropped: 0 }
  readonly #observers: readonly LinkObserver[]
  readonly #gates: LinkGate[] = []
  #sending = false
  #owed = false
  /** What was taken of this side's while the other was sending, for observers. */
  #answers: FrameBatch[] = []

  constructor(link: Link, observers: readonly LinkObserver[]) {
    this.link = link
    this.#observers = observers
  }

  /** Puts an end there; throws `E_CONFIG` when there is one. */
  attach(end: LinkEnd): void {
    if (this.end !== undefined) {
      throw new VirtioError('E_CONFIG', 'this side of the link has an end already: detach it first')
    }
    this.end = end
    if (!this.link.up) end.linkChanged(false)
    this.peer.end?.peerChanged?.()
    // It may wait for one that is no more.
    this.ready()
  }

  detach(): void {
    if (this.end === undefined) return
    for (const end of [this.end, this.peer.end]) end?.yieldRings?.()
    this.end = undefined
    this.#owed = false
    this.peer.end?.peerChanged?.()
    this.ready()
  }

  /** What the other end accepts: nothing where there is none. */
  get peerAccepts(): number {
    return this.peer.end?.accepts ?? 0
  }

  /**
   * Sends the records `[from, batch.used)` to the other end; the result is that of its `receive`. A send from within
   * another of the same side, as frames that go round make it, is left for later: nothing is taken, and `resume` follows.
   */
  send(batch: FrameBatch, from: number = 0): number {
    if (from >= batch.used) return batch.used
    if (this.#sending) {
      this.#owed = true
      return from
    }
    const receiver = this.peer.end
    if (receiver === undefined || !this.link.up) {
      this.#drop(batch, from)
      return batch.used
    }
    this.#sending = true
    let taken = from
    try {
      const [gate] = this.#gates
      taken = gate === undefined ? receiver.receive(batch, from) : gate.take(batch, from)
    } finally {
      this.#sending = false
    }
    if (this.#observers.length > 0) this.#tell(batch, from, taken)
    this.#count(batch, from, taken)
    this.#payOwed()
    return taken
  }

  get hasGates(): boolean {
    return this.#gates.length > 0
  }

  /** For {@link Link.addGate}. */
  putGate(create: (passage: LinkPassage) => LinkGate): () => void {
    const gate = create({
      pass: (batch, from) => this.#pass(gate, batch, from),
      wake: () => {
        if (this.#sending) this.#owed = true
        else this.end?.resume()
      },
    })
    this.#gates.push(gate)
    return () => {
      const at = this.#gates.indexOf(gate)
      if (at >= 0) this.#gates.splice(at, 1)
      this.end?.resume()
    }
  }

  /** What a gate lets through, at once or later, goes to the next one, or to the other end. */
  #pass(gate: LinkGate, batch: FrameBatch, from: number): number {
    if (from >= batch.used) return batch.used
    const next = this.#gates[this.#gates.indexOf(gate) + 1]
    const receiver = this.peer.end
    if (next === undefined && (receiver === undefined || !this.link.up)) {
      this.#drop(batch, from)
      return batch.used
    }
    const wasSending = this.#sending
    this.#sending = true
    try {
      return next === undefined ? receiver!.receive(batch, from) : next.take(batch, from)
    } finally {
      this.#sending = wasSending
      if (!wasSending) this.#payOwed()
    }
  }

  /** Who wanted to send from within a send may now; not before the sender knows what was taken. */
  #payOwed(): void {
    if (!this.#owed) return
    this.#owed = false
    queueMicrotask(() => this.#resume())
  }

  /** This end takes frames again: the other offers what it kept. */
  ready(): void {
    if (this.peer.#sending) this.peer.#owed = true
    else this.peer.#resume()
  }

  /** The receiver is ready: the gates nearest to it first, then the sender. */
  #resume(): void {
    for (const gate of this.#gates.toReversed()) gate.ready()
    this.end?.resume()
  }

  /** What this end accepts is another now. */
  acceptsChanged(): void {
    this.peer.end?.peerChanged?.()
  }

  #tell(batch: FrameBatch, from: number, to: number): void {
    if (this.peer.#sending) {
      const copy = new FrameBatch(Math.max(DEFAULT_BATCH_BYTES, batch.bytes.length))
      for (let at = from; at < to; at = batch.next(at)) copy.copyRecord(batch, at)
      this.#answers.push(copy)
      return
    }
    const answers = this.peer.#answers.splice(0)
    for (const observer of this.#observers) {
      observer(this, batch, from, to)
      for (const answer of answers) observer(this.peer, answer, 0, answer.used)
    }
  }

  #count(batch: FrameBatch, from: number, to: number): void {
    const { counters } = this
    for (let at = from; at < to; at = batch.next(at)) {
      counters.frames++
      counters.bytes += batch.frameBytes(at)
    }
  }

  #drop(batch: FrameBatch, from: number): void {
    for (let at = from; at < batch.used; at = batch.next(at)) this.counters.dropped++
  }
}
