import { MAX_FRAME_BYTES, FrameBatch } from '../net/frame-batch.ts'
import type { LinkEnd } from '../net/link.ts'

/** The other end of a link for tests: keeps what it gets, and takes no more frames than `room`. */
export class NetEnd implements LinkEnd {
  /** Frames and their headers, in order. */
  readonly got: { header: Uint8Array; frame: Uint8Array }[] = []
  /** How many frames each `receive` was offered. */
  readonly offered: number[] = []
  readonly told: string[] = []
  accepts: number
  maxFrame: number = MAX_FRAME_BYTES
  room: number = Infinity

  constructor(accepts: number = 0) {
    this.accepts = accepts
  }

  receive(batch: FrameBatch, from: number): number {
    this.offered.push([...batch.records(from)].length)
    let at = from
    for (; at < batch.used && this.room > 0; at = batch.next(at), this.room--) {
      this.got.push({ header: batch.header(at).slice(), frame: batch.frame(at).slice() })
    }
    return at
  }

  resume(): void {
    this.told.push('resume')
  }

  linkChanged(up: boolean): void {
    this.told.push(up ? 'up' : 'down')
  }

  peerChanged(): void {
    this.told.push('peer')
  }
}

/** A batch of frames, with headers where given. */
export function batchOf(...frames: (Uint8Array | [Uint8Array, Uint8Array])[]): FrameBatch {
  const batch = new FrameBatch()
  for (const item of frames) {
    if (item instanceof Uint8Array) batch.push(item)
    else batch.push(item[1], item[0])
  }
  return batch
}
