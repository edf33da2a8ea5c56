import type { FrameBatch, LinkSide } from 'virtio'

import type { DmaMemory } from '../../net/dma.ts'
import type { RegisterFile } from './register-map.ts'
import { CAUSE_TXDW } from './registers.ts'

/** What of the card the transmitter needs. */
export interface TransmitLinks {
  registers: RegisterFile
  memory: DmaMemory
  side: LinkSide
  /** Frames go to the card's own receiver. */
  isLoop(): boolean
  loop(batch: FrameBatch): void
  /** Tells the guest. */
  raise(causes: number): void
  /** Calls `run` again soon. */
  later(): void
}

/** What cards do in ways of their own. */
export interface TransmitModel {
  /** For messages. */
  name: string
  /** How far the registers of the ring are behind those of the first one. */
  ringOffset: number
  /** All packets have one context, cut or not; else there is one for each. */
  sharesContext: boolean
  /** A tail outside the ring is the same as an empty ring. */
  needsTailInRing: boolean
  /** Whether the guest is told of the last descriptor of each packet, beside those that ask for it. */
  reportsPackets(): boolean
  /** The cause of an interrupt when a descriptor is done. */
  doneCause(): number
}

/** The 82540EM's only ring. */
export const ONLY_RING: TransmitModel = {
  name: 'e1000',
  ringOffset: 0,
  sharesContext: false,
  needsTailInRing: false,
  reportsPackets: () => false,
  doneCause: () => CAUSE_TXDW,
}
