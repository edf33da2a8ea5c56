/** A queue that its device has lent, and how far it is. */
export interface LentQueue {
  /** Descriptors. */
  readonly size: number
  /** Guest physical addresses of descriptor table, available and used ring. */
  readonly desc: number
  readonly avail: number
  readonly used: number
  /** The positions of a `VirtqueueState`. */
  readonly lastAvail: number
  readonly usedIdx: number
  readonly signalled: number
  /** An eventfd that is signalled when the driver kicks. */
  readonly kickFd: number
  /** The message that interrupts the driver. */
  readonly address: number
  readonly data: number
}

/**
 * The data queues of a card, which it lends to the other end of its link, with all that is to be known of its driver. Who borrows
 * them serves what is usual, without JavaScript, and gives back all else as he found it.
 */
export interface RingLoan {
  readonly rx: LentQueue
  readonly tx: LentQueue
  readonly eventIdx: boolean
  readonly indirect: boolean
  /** A frame may go to several buffers. */
  readonly mergeable: boolean
  /** The driver takes partial checksums. */
  readonly checksums: boolean
  /** `ACCEPTS_…` bits of what the driver may ask for. */
  readonly offloads: number
  readonly mac: Uint8Array
  /** Frames to the card's address pass its filter; frames to everybody do. Nothing is said of others. */
  readonly unicast: boolean
  readonly broadcast: boolean
  /** By what native code reaches guest memory and sends messages; of whoever made the device. */
  readonly calls: unknown
}

/** Positions at the end of a loan: `lastAvail`, `usedIdx`, `signalled`. */
export type LentPositions = readonly [number, number, number]

/** Where the queues are, and what was done with them. */
export interface ReturnedRings {
  readonly rx: LentPositions
  readonly tx: LentPositions
  /** Frames of the driver's that were sent, those that made no sense, and frames for it. */
  readonly sent: number
  readonly sentBytes: number
  readonly errors: number
  readonly received: number
  readonly receivedBytes: number
  /** Times that the driver kicked. */
  readonly kicks: number
}

/** Who has borrowed the queues of a card. */
export interface RingServer {
  /** Looks at the queues now. */
  kick(): void
  /** Leaves the queues alone from now on. Frames that the driver had no room for are offered again by `resume`. */
  end(): ReturnedRings
}

/** What a transport does for a queue that is lent. */
export interface QueueLink {
  readonly kickFd: number
  readonly address: number
  readonly data: number
  /** Kicks are told to the device again; there were so many meanwhile. */
  end(kicks: number): void
}
