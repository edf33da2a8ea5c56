import type { LinkSide } from 'virtio'

import type { Clock, ClockTimer } from '../../device.ts'
import { type Field } from '../../machine/state.ts'
import type { Phy } from './phy.ts'

/** How long the two ends of a cable talk about what both can. */
const NEGOTIATION_NS = 500e6

/** Nanoseconds, or -1. */
export const negotiationField: Field<number> = (value) =>
  typeof value === 'number' && Number.isFinite(value) && (value >= 0 || value === -1)
    ? value
    : undefined

/** What of the card a cable needs. */
export interface CableLinks {
  clock: Clock
  side: LinkSide
  phy: Phy
  /** The bit of the card's status. */
  isUp(): boolean
  setUp(up: boolean): void
  /** Both ends have agreed: what the card notes of that, if anything. */
  negotiated?(): void
  /** Tells the guest that the link has changed. */
  changed(): void
}

/** The state of a card's link, and negotiation at its ends (IEEE 802.3, clause 28). */
export class Cable {
  readonly #links: CableLinks
  #negotiation: { timer: ClockTimer; atNs: number } | undefined

  constructor(links: CableLinks) {
    this.#links = links
  }

  /** The cable was pulled out, or put in. */
  linkChanged(up: boolean): void {
    const { phy, isUp, changed } = this.#links
    const before = isUp()
    if (!up) this.#down()
    else if (phy.negotiates && !phy.hasNegotiated) this.negotiate()
    else this.#up()
    if (isUp() !== before) changed()
  }

  /** Begins anew. */
  negotiate(): void {
    this.#down()
    this.stop()
    this.#negotiateFor(NEGOTIATION_NS)
  }

  /** After power-on: nothing is under way, and the link is what the cable is. */
  reset(): void {
    this.stop()
    this.#links.phy.reset()
    this.#links.setUp(true)
    if (!this.#links.side.link.up) this.#down()
  }

  stop(): void {
    this.#negotiation?.timer.cancel()
    this.#negotiation = undefined
  }

  /** Nanoseconds until the cable has been negotiated; -1 when nobody waits. */
  save(): number {
    const atNs = this.#negotiation?.atNs
    return atNs === undefined ? -1 : Math.max(0, atNs - this.#links.clock.nowNs())
  }

  load(ns: number): void {
    this.stop()
    if (ns >= 0) this.#negotiateFor(Math.min(ns, NEGOTIATION_NS))
  }

  #negotiateFor(ns: number): void {
    const { clock, side, phy, negotiated, changed } = this.#links
    const atNs = clock.nowNs() + ns
    const timer = clock.setTimer(atNs, () => {
      this.#negotiation = undefined
      if (!side.link.up) return
      phy.negotiated()
      negotiated?.()
      this.#up()
      changed()
    })
    this.#negotiation = { timer, atNs }
  }

  #down(): void {
    this.#links.setUp(false)
    this.#links.phy.linkDown()
  }

  #up(): void {
    this.#links.phy.linkUp()
    this.#links.setUp(true)
  }
}
