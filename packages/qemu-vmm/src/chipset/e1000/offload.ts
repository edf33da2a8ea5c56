import { flag, int, parseState } from '../../machine/state.ts'

/** What a context descriptor says of the frames after it (Intel 8254x manual, 3.3.6). */
export interface OffloadContext {
  /** Where the header of IP begins, where its checksum is, and the last byte that counts; 0 for all. */
  ipStart: number
  ipSum: number
  ipEnd: number
  /** The same of TCP or UDP. */
  tuStart: number
  tuSum: number
  tuEnd: number
  /** Bytes behind the headers, bytes of the headers, and bytes of a segment without them. */
  payload: number
  headers: number
  segment: number
  isIpv4: boolean
  isTcp: boolean
}

export const NO_CONTEXT: OffloadContext = {
  ipStart: 0,
  ipSum: 0,
  ipEnd: 0,
  tuStart: 0,
  tuSum: 0,
  tuEnd: 0,
  payload: 0,
  headers: 0,
  segment: 0,
  isIpv4: false,
  isTcp: false,
}

/** Bits of the command of a context descriptor. */
const COMMAND_TCP = 0x0100_0000
const COMMAND_IPV4 = 0x0200_0000

/** Reads a context descriptor of 16 bytes. */
export function readContext(descriptor: DataView): OffloadContext {
  const command = descriptor.getUint32(8, true)
  return {
    ipStart: descriptor.getUint8(0),
    ipSum: descriptor.getUint8(1),
    ipEnd: descriptor.getUint16(2, true),
    tuStart: descriptor.getUint8(4),
    tuSum: descriptor.getUint8(5),
    tuEnd: descriptor.getUint16(6, true),
    payload: command & 0xf_ffff,
    headers: descriptor.getUint8(13),
    segment: descriptor.getUint16(14, true),
    isIpv4: (command & COMMAND_IPV4) !== 0,
    isTcp: (command & COMMAND_TCP) !== 0,
  }
}

/** Checks what `save` of the card has of a context. */
export function loadContext(device: string, state: unknown): OffloadContext {
  const byte = int(0, 0xff)
  const word = int(0, 0xffff)
  return parseState<OffloadContext>(device, state, {
    ipStart: byte,
    ipSum: byte,
    ipEnd: word,
    tuStart: byte,
    tuSum: byte,
    tuEnd: word,
    payload: int(0, 0xf_ffff),
    headers: byte,
    segment: word,
    isIpv4: flag,
    isTcp: flag,
  })
}

const IPV6_HEADER_BYTES = 40
const TCP_SEQUENCE = 4
const TCP_FLAGS = 13
/** FIN and PSH, which only the last segment has. */
const TCP_LAST_FLAGS = 0x09

/**
 * Makes the headers of a large packet those of its segment `index`, which is `size` bytes with them (Intel 8254x
 * manual, 3.5). Fields that lie outside are left. With `sums`, the length goes into the sum of the pseudo header.
 */
export function cutSegment(
  frame: DataView,
  size: number,
  context: OffloadContext,
  index: number,
  sums: boolean,
): void {
  const { ipStart, tuStart, isTcp } = context
  const add16 = (at: number, by: number): void => {
    if (at + 2 <= size) frame.setUint16(at, frame.getUint16(at) + by)
  }
  const put16 = (at: number, value: number): void => {
    if (at + 2 <= size) frame.setUint16(at, value)
  }
  if (context.isIpv4) {
    put16(ipStart + 2, size - ipStart)
    add16(ipStart + 4, index)
  } else put16(ipStart + 4, size - ipStart - IPV6_HEADER_BYTES)
  const length = size - tuStart
  if (isTcp) {
    const done = index * context.segment
    const sequence = tuStart + TCP_SEQUENCE
    if (sequence + 4 <= size) frame.setUint32(sequence, frame.getUint32(sequence) + done)
    const flags = tuStart + TCP_FLAGS
    if (flags < size && !isLastSegment(context, index)) {
      frame.setUint8(flags, frame.getUint8(flags) & ~TCP_LAST_FLAGS)
    }
  } else put16(tuStart + 4, length)
  const sum = context.tuSum
  if (!sums || sum + 2 > size) return
  const total = frame.getUint16(sum) + (length & 0xffff)
  frame.setUint16(sum, (total >>> 16) + total)
}

export function isLastSegment({ payload, segment }: OffloadContext, index: number): boolean {
  return payload - index * segment <= segment
}
