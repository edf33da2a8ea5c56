import { MIN_FRAME_BYTES } from '../../net/frame-batch.ts'
import type { RxFilter } from '../../net/link.ts'
import { bytes, flag, int, parseState } from '../../state.ts'
import { MAC_BYTES } from './protocol.ts'

/** Addresses of each kind that are kept; with more, all of that kind pass. */
const MAX_ADDRESSES = 64
const VLANS = 4096
const VLAN_ETHERTYPE = 0x8100
const FLAGS = ['promisc', 'allMulti', 'allUni', 'noMulti', 'noUni', 'noBroadcast'] as const

export type RxFlag = (typeof FLAGS)[number]

export interface NetFilterState {
  mac: Uint8Array
  /** One bit for each of the six flags of the control queue, in the order of their commands. */
  flags: number
  unicast: Uint8Array
  multicast: Uint8Array
  unicastOverflow: boolean
  multicastOverflow: boolean
  vlans: Uint8Array
}

/** Which frames the driver wants (VirtIO 1.2, sections 5.1.6.5.1 to 5.1.6.5.3). */
export class NetFilter {
  readonly mac: Uint8Array = new Uint8Array(MAC_BYTES)
  /** Until a driver says otherwise everything passes: one without a control queue cannot. */
  promisc = true
  allMulti = false
  allUni = false
  noMulti = false
  noUni = false
  noBroadcast = false
  #unicast: Uint8Array = new Uint8Array(0)
  #multicast: Uint8Array = new Uint8Array(0)
  #unicastOverflow = false
  #multicastOverflow = false
  readonly #vlans: Uint8Array = new Uint8Array(VLANS / 8).fill(0xff)

  /** Back to what passes after power-on, with this address. */
  reset(mac: Uint8Array): void {
    this.mac.set(mac)
    for (const name of FLAGS) this[name] = name === 'promisc'
    this.setTables(new Uint8Array(0), new Uint8Array(0))
    this.#vlans.fill(0xff)
  }

  /** Takes the flag of a command of the class RX; false for a command that there is not. */
  setFlag(command: number, on: boolean): boolean {
    const name = FLAGS[command]
    if (name === undefined) return false
    this[name] = on
    return true
  }

  /** Two lists of addresses, 6 bytes each. */
  setTables(unicast: Uint8Array, multicast: Uint8Array): void {
    this.#unicastOverflow = unicast.length > MAX_ADDRESSES * MAC_BYTES
    this.#multicastOverflow = multicast.length > MAX_ADDRESSES * MAC_BYTES
    this.#unicast = this.#unicastOverflow ? new Uint8Array(0) : unicast
    this.#multicast = this.#multicastOverflow ? new Uint8Array(0) : multicast
  }

  /** Whether tags are looked at: with CTRL_VLAN none pass that were not added. */
  filterVlans(on: boolean): void {
    this.#vlans.fill(on ? 0 : 0xff)
  }

  /** Lets a tag through, or not; false for a number that no tag has. */
  setVlan(id: number, passes: boolean): boolean {
    if (id >= VLANS) return false
    const bit = 1 << (id & 7)
    if (passes) this.#vlans[id >> 3]! |= bit
    else this.#vlans[id >> 3]! &= ~bit
    return true
  }

  /** Whether the frame at `at`, of at least 14 bytes, passes. */
  passes(frame: Uint8Array, at: number, length: number): boolean {
    if (this.promisc) return true
    if (length >= 18 && ((frame[at + 12]! << 8) | frame[at + 13]!) === VLAN_ETHERTYPE) {
      const id = ((frame[at + 14]! << 8) | frame[at + 15]!) & (VLANS - 1)
      if ((this.#vlans[id >> 3]! & (1 << (id & 7))) === 0) return false
    }
    if ((frame[at]! & 1) === 0) {
      if (this.noUni) return false
      return (
        this.allUni ||
        this.#unicastOverflow ||
        isIn(this.mac, frame, at) ||
        isIn(this.#unicast, frame, at)
      )
    }
    if (isBroadcast(frame, at)) return !this.noBroadcast
    if (this.noMulti) return false
    return this.allMulti || this.#multicastOverflow || isIn(this.#multicast, frame, at)
  }

  /** What of frames without a tag passes for certain: those to the card's own address, and those to everybody. */
  certain(): { mac: Uint8Array; unicast: boolean; broadcast: boolean } {
    const frame = new Uint8Array(MIN_FRAME_BYTES)
    frame.set(this.mac)
    const unicast = this.passes(frame, 0, frame.length)
    frame.fill(0xff, 0, MAC_BYTES)
    return { mac: this.mac.slice(), unicast, broadcast: this.passes(frame, 0, frame.length) }
  }

  /** For `query-rx-filter`. */
  info(): RxFilter {
    const kind = (none: boolean, all: boolean): 'none' | 'normal' | 'all' =>
      none ? 'none' : all ? 'all' : 'normal'
    const ids = Array.from({ length: VLANS }, (_, id) => id)
    const vlans = ids.filter((id) => this.#vlans[id >> 3]! & (1 << (id & 7)))
    return {
      promiscuous: this.promisc,
      unicast: kind(this.noUni, this.allUni),
      multicast: kind(this.noMulti, this.allMulti),
      broadcastAllowed: !this.noBroadcast,
      unicastOverflow: this.#unicastOverflow,
      multicastOverflow: this.#multicastOverflow,
      mainMac: macText(this.mac),
      unicastTable: addresses(this.#unicast),
      multicastTable: addresses(this.#multicast),
      vlanTable: vlans.length === VLANS ? undefined : vlans,
    }
  }

  save(): NetFilterState {
    return {
      mac: this.mac.slice(),
      flags: FLAGS.reduce((word, name, bit) => word | (Number(this[name]) << bit), 0),
      unicast: this.#unicast.slice(),
      multicast: this.#multicast.slice(),
      unicastOverflow: this.#unicastOverflow,
      multicastOverflow: this.#multicastOverflow,
      vlans: this.#vlans.slice(),
    }
  }

  load(owner: string, state: unknown): void {
    const tables = (value: unknown): Uint8Array | undefined => {
      const table = bytes(MAX_ADDRESSES * MAC_BYTES)(value)
      return table !== undefined && table.length % MAC_BYTES === 0 ? table : undefined
    }
    const exactly = (length: number) => (value: unknown) => {
      const array = bytes(length)(value)
      return array?.length === length ? array : undefined
    }
    const s = parseState<NetFilterState>(owner, state, {
      mac: exactly(MAC_BYTES),
      flags: int(0, (1 << FLAGS.length) - 1),
      unicast: tables,
      multicast: tables,
      unicastOverflow: flag,
      multicastOverflow: flag,
      vlans: exactly(VLANS / 8),
    })
    this.mac.set(s.mac)
    for (const [bit, name] of FLAGS.entries()) this[name] = (s.flags & (1 << bit)) !== 0
    this.#unicast = s.unicast
    this.#multicast = s.multicast
    this.#unicastOverflow = s.unicastOverflow
    this.#multicastOverflow = s.multicastOverflow
    this.#vlans.set(s.vlans)
  }
}

/** Six bytes as `52:54:00:12:34:56`. */
export function macText(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

function addresses(table: Uint8Array): string[] {
  return Array.from({ length: table.length / MAC_BYTES }, (_, i) =>
    macText(table.subarray(MAC_BYTES * i, MAC_BYTES * (i + 1))),
  )
}

function isIn(table: Uint8Array, frame: Uint8Array, at: number): boolean {
  for (let i = 0; i < table.length; i += MAC_BYTES) {
    let same = 0
    while (same < MAC_BYTES && table[i + same] === frame[at + same]) same++
    if (same === MAC_BYTES) return true
  }
  return false
}

function isBroadcast(frame: Uint8Array, at: number): boolean {
  for (let i = 0; i < MAC_BYTES; i++) if (frame[at + i] !== 0xff) return false
  return true
}
