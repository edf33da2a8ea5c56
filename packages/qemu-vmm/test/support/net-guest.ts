import { FrameBatch, Link, type LinkEnd, type LinkSide } from 'virtio'

import type { UserNetConfig } from '../../src/net/user/config.ts'
import type { OnConnect } from '../../src/net/user/decision.ts'
import { parseUserOptions } from '../../src/net/user/options.ts'
import { UserNet } from '../../src/net/user/user-net.ts'

export const MAC = [0x52, 0x54, 0, 0x12, 0x34, 0x56]
export const ROUTER = [0x52, 0x55, 10, 0, 2, 2]
export const ADDRESS = [10, 0, 2, 15]
export const HOST = [10, 0, 2, 2]

/** A guest that says what a test lets it say. */
export class Guest implements LinkEnd {
  readonly accepts: number
  readonly maxFrame = 1514
  readonly frames: Uint8Array[] = []
  readonly headers: Uint8Array[] = []
  /** How many frames it takes before it wants to be waited for. */
  room = Number.POSITIVE_INFINITY
  readonly #batch = new FrameBatch()
  readonly #side: LinkSide
  #wake: (() => void) | undefined

  constructor(side: LinkSide, accepts = 0) {
    this.accepts = accepts
    this.#side = side
    side.attach(this)
  }

  receive(batch: FrameBatch, from: number): number {
    let at = from
    for (; at < batch.used && this.room > 0; at = batch.next(at), this.room--) {
      this.frames.push(batch.frame(at).slice())
      this.headers.push(batch.header(at).slice())
    }
    this.#wake?.()
    return at
  }

  resume(): void {}
  linkChanged(): void {}

  ready(room: number): void {
    this.room = room
    this.#side.ready()
  }

  send(...frames: readonly number[][]): void {
    this.#batch.clear()
    for (const frame of frames) this.#batch.push(Uint8Array.from(frame))
    this.#side.send(this.#batch)
  }

  /** The first frame for which `matches`, once it is there. */
  async next(matches: (frame: Uint8Array) => boolean): Promise<Uint8Array> {
    for (;;) {
      const found = this.frames.findIndex((frame) => matches(frame))
      if (found >= 0) return this.frames.splice(found, 1)[0] as Uint8Array
      await new Promise<void>((resolve) => (this.#wake = resolve))
    }
  }
}

export function word(value: number): number[] {
  return [(value >> 8) & 255, value & 255]
}

export function long(value: number): number[] {
  return [...word(value >>> 16), ...word(value & 0xffff)]
}

export function checksum(bytes: readonly number[]): number {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 2) {
    sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return ~sum & 0xffff
}

export function ipv4(
  protocol: number,
  to: readonly number[],
  payload: readonly number[],
  from = ADDRESS,
): number[] {
  const header = [
    0x45,
    0,
    ...word(20 + payload.length),
    0,
    0,
    0,
    0,
    64,
    protocol,
    0,
    0,
    ...from,
    ...to,
  ]
  const sum = checksum(header)
  header[10] = sum >> 8
  header[11] = sum & 255
  return [...ROUTER, ...MAC, 8, 0, ...header, ...payload]
}

export function udp(
  to: readonly number[],
  fromPort: number,
  toPort: number,
  data: readonly number[],
  from = ADDRESS,
): number[] {
  return ipv4(
    17,
    to,
    [...word(fromPort), ...word(toPort), ...word(8 + data.length), 0, 0, ...data],
    from,
  )
}

export function tcp(
  to: readonly number[],
  ports: readonly [number, number],
  numbers: readonly [number, number],
  flags: number,
  data: readonly number[] = [],
): number[] {
  const segment = [
    ...word(ports[0]),
    ...word(ports[1]),
    ...long(numbers[0]),
    ...long(numbers[1]),
    0x50,
    flags,
    ...word(60_000),
    0,
    0,
    0,
    0,
    ...data,
  ]
  const sum = checksum([...ADDRESS, ...to, 0, 6, ...word(segment.length), ...segment])
  segment[16] = sum >> 8
  segment[17] = sum & 255
  return ipv4(6, to, segment)
}

export const isTcp = (frame: Uint8Array): boolean =>
  frame[12] === 8 && frame[13] === 0 && frame[23] === 6
export const isUdp = (frame: Uint8Array): boolean =>
  frame[12] === 8 && frame[13] === 0 && frame[23] === 17

export function sequence(frame: Uint8Array): number {
  return new DataView(frame.buffer, frame.byteOffset).getUint32(38)
}

export function network(
  options: Record<string, string> = {},
  accepts = 0,
  onConnect?: OnConnect,
  report = (message: string): void => {
    throw new Error(message)
  },
): { net: UserNet; guest: Guest; config: UserNetConfig } {
  const config = parseUserOptions(
    'net0',
    Object.entries(options).map(([key, value]) => ({ key, value })),
  )
  const net = new UserNet(onConnect === undefined ? config : { ...config, onConnect }, {
    nowUs: () => performance.now() * 1000,
    seed: 1,
    report,
  })
  const link = new Link()
  const guest = new Guest(link.b, accepts)
  net.attach(link.a)
  return { net, guest, config }
}
