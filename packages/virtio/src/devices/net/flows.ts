/** Places of the table; a power of two. */
const FLOWS = 256

/**
 * Which pair of queues last sent a frame of a flow: the flow's frames come back there (VirtIO 1.2, section 5.1.6.5.5).
 * The hash is the same for both directions.
 */
export class FlowTable {
  readonly #pairs: Uint8Array = new Uint8Array(FLOWS)

  note(frame: Uint8Array, at: number, length: number, pair: number): void {
    this.#pairs[flowHash(frame, at, length)] = pair
  }

  pairOf(frame: Uint8Array, at: number, length: number): number {
    return this.#pairs[flowHash(frame, at, length)]!
  }

  clear(): void {
    this.#pairs.fill(0)
  }
}

/** Addresses and ports of IPv4 and IPv6, each added up so that their order does not matter. */
function flowHash(frame: Uint8Array, at: number, length: number): number {
  const type = (frame[at + 12]! << 8) | frame[at + 13]!
  let from: number
  let to: number
  let ports: number
  if (type === 0x0800 && length >= 38) {
    from = at + 26
    to = at + 34
    ports = at + 14 + 4 * (frame[at + 14]! & 15)
  } else if (type === 0x86dd && length >= 58) {
    from = at + 22
    to = at + 54
    ports = at + 54
  } else return 0
  let hash = 0
  for (let i = from; i < to; i++) hash = (hash + frame[i]! * (1 + 30 * (i & 1))) | 0
  if (ports + 4 <= at + length)
    hash += frame[ports]! + frame[ports + 2]! + 31 * (frame[ports + 1]! + frame[ports + 3]!)
  return (hash ^ (hash >>> 8)) & (FLOWS - 1)
}
