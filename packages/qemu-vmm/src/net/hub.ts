import { type FrameBatch, type LinkEnd, type LinkSide, MAX_FRAME_BYTES } from 'virtio'

/** What is plugged into a hub: frames of one go to all others. */
export class Hub {
  readonly ports: HubPort[] = []
}

/**
 * A port of a hub, as the end of a link. With one other port frames wait for it; with several those who do not take
 * them lose them, as nobody shall wait for the slowest. Headers with work for others are not passed on, as in QEMU.
 */
export class HubPort implements LinkEnd {
  readonly accepts: number = 0
  readonly maxFrame: number = MAX_FRAME_BYTES
  readonly #hub: Hub
  readonly #side: LinkSide
  /** Those who were left with frames by what is at this port. */
  readonly #waiting: Set<HubPort> = new Set()

  constructor(hub: Hub, side: LinkSide) {
    this.#hub = hub
    this.#side = side
    hub.ports.push(this)
    side.attach(this)
  }

  receive(batch: FrameBatch, from: number): number {
    const others = this.#hub.ports.filter((port) => port !== this)
    const [only] = others
    if (only !== undefined && others.length === 1) {
      const taken = only.#side.send(batch, from)
      if (taken < batch.used) only.#waiting.add(this)
      return taken
    }
    for (const other of others) other.#side.send(batch, from)
    return batch.used
  }

  resume(): void {
    const waiting = [...this.#waiting]
    this.#waiting.clear()
    for (const port of waiting) port.#side.ready()
  }

  linkChanged(): void {}

  close(): void {
    const { ports } = this.#hub
    ports.splice(ports.indexOf(this), 1)
    this.#side.detach()
    // Frames that waited for this port go where they can.
    this.resume()
  }
}
