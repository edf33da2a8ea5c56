import { FrameBatch, type LinkSide } from 'virtio'

/** Frames for a card, which may not take them at once. */
export class CardSender {
  readonly batch: FrameBatch = new FrameBatch()
  readonly #side: LinkSide
  #from = 0
  #isSending = false

  constructor(side: LinkSide) {
    this.#side = side
  }

  /** Sends what is in the batch; false when the card did not take all of it: it will say when it does. */
  flush(): boolean {
    if (this.#isSending) return false
    this.#isSending = true
    try {
      this.#from = this.#side.send(this.batch, this.#from)
    } finally {
      this.#isSending = false
    }
    if (this.#from < this.batch.used) return false
    this.clear()
    return true
  }

  clear(): void {
    this.#from = 0
    this.batch.clear()
  }
}
