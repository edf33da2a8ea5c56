import { array, int, optional, string, struct, uuid } from './codec.ts'
import type { Codec, Value } from './codec.ts'
import { VirtError } from './errors.ts'
import { XdrReader, XdrWriter } from './xdr.ts'

// A message is a length that includes itself, six words, and the payload.

/** The longest message with its length, in bytes. */
export const MESSAGE_BYTES: number = 32 * 1024 * 1024
/** Length and header. */
export const HEADER_BYTES = 28

/** Programs of the protocol; a connection carries all of them. */
export const Program = {
  REMOTE: 0x20008086,
  QEMU: 0x20008087,
  LXC: 0x00068000,
  KEEPALIVE: 0x6b656570,
} as const

export const MessageType = {
  CALL: 0,
  REPLY: 1,
  MESSAGE: 2,
  STREAM: 3,
  CALL_WITH_FDS: 4,
  REPLY_WITH_FDS: 5,
  STREAM_HOLE: 6,
} as const

export const Status = { OK: 0, ERROR: 1, CONTINUE: 2 } as const

/** Procedures of {@link Program.KEEPALIVE}. */
export const KeepAlive = { PING: 1, PONG: 2 } as const

export interface Header {
  program: number
  version: number
  procedure: number
  /** Of {@link MessageType}. */
  type: number
  /** Of the call, in everything that belongs to it; 0 in events. */
  serial: number
  /** Of {@link Status}. */
  status: number
}

export interface Message extends Header {
  payload: Buffer
}

/** A message of a payload that is encoded already. */
export function encodeMessage(header: Header, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(HEADER_BYTES + payload.length)
  writeHeader(bytes, header)
  bytes.set(payload, HEADER_BYTES)
  return bytes
}

/** A message of one value. @throws RpcError as {@link encode} does */
export function encodeReply<T>(header: Header, codec: Codec<T>, value: T): Buffer {
  const writer = new XdrWriter(MESSAGE_BYTES, HEADER_BYTES)
  codec.write(writer, value)
  const bytes = writer.finish()
  writeHeader(bytes, header)
  return bytes
}

function writeHeader(bytes: Buffer, header: Header): void {
  bytes.writeUInt32BE(bytes.length, 0)
  bytes.writeUInt32BE(header.program, 4)
  bytes.writeUInt32BE(header.version, 8)
  bytes.writeInt32BE(header.procedure, 12)
  bytes.writeUInt32BE(header.type, 16)
  bytes.writeUInt32BE(header.serial, 20)
  bytes.writeUInt32BE(header.status, 24)
}

/** @throws RpcError for a value that the codec has no form for, or that is too long for a message */
export function encode<T>(codec: Codec<T>, value: T): Buffer {
  const writer = new XdrWriter(MESSAGE_BYTES - HEADER_BYTES)
  codec.write(writer, value)
  return writer.finish()
}

/** @throws RpcError for bytes that are not one value of the codec */
export function decode<T>(codec: Codec<T>, bytes: Buffer): T {
  const reader = new XdrReader(bytes)
  const value = codec.read(reader)
  reader.end()
  return value
}

/** A domain as calls and replies name it; the id is -1 while it is not running. */
export const domainRef = struct({ name: string, uuid, id: int })
/** {@link domainRef} */
export type DomainRef = Value<typeof domainRef>
export const networkRef = struct({ name: string, uuid })
export type NetworkRef = Value<typeof networkRef>
export const poolRef = struct({ name: string, uuid })
export type PoolRef = Value<typeof poolRef>
export const volumeRef = struct({ pool: string, name: string, key: string })
export type VolumeRef = Value<typeof volumeRef>

const text = optional(string)
const errorCodec = struct({
  code: int,
  domain: int,
  message: text,
  level: int,
  dom: optional(domainRef),
  str1: text,
  str2: text,
  str3: text,
  int1: int,
  int2: int,
  net: optional(networkRef),
})

const LEVEL_ERROR = 2

/** The payload of a reply that says why there is none. */
export function encodeError(error: VirtError): Buffer {
  // A message is for people; what is beyond this is not read.
  const message = error.message.replaceAll('\0', '').slice(0, 16_384)
  return encode(errorCodec, {
    code: error.code,
    domain: error.domain,
    message,
    level: LEVEL_ERROR,
    dom: undefined,
    str1: '%s',
    str2: message,
    str3: undefined,
    int1: -1,
    int2: -1,
    net: undefined,
  })
}

export function decodeError(payload: Buffer): VirtError {
  const { code, domain, message } = decode(errorCodec, payload)
  return new VirtError(code, message ?? 'an error without a message', { domain })
}

/** Names, as lists have them. */
export const names = array(string)
