import { RpcError } from './errors.ts'
import { STRING_BYTES } from './xdr.ts'
import type { XdrReader, XdrWriter } from './xdr.ts'

/** How values of a type are written and read. */
export interface Codec<T> {
  /** The fewest bytes that a value takes. */
  readonly size: number
  read(reader: XdrReader): T
  write(writer: XdrWriter, value: T): void
}

/** The type of a codec's values. */
export type Value<C> = C extends Codec<infer T> ? T : never

export const int: Codec<number> = {
  size: 4,
  read: (reader) => reader.int(),
  write: (writer, value) => writer.int(value),
}

export const uint: Codec<number> = {
  size: 4,
  read: (reader) => reader.uint(),
  write: (writer, value) => writer.uint(value),
}

export const hyper: Codec<bigint> = {
  size: 8,
  read: (reader) => reader.hyper(),
  write: (writer, value) => writer.hyper(value),
}

export const uhyper: Codec<bigint> = {
  size: 8,
  read: (reader) => reader.uhyper(),
  write: (writer, value) => writer.uhyper(value),
}

export const double: Codec<number> = {
  size: 8,
  read: (reader) => reader.double(),
  write: (writer, value) => writer.double(value),
}

/** An int that libvirt treats as a truth value: everything but zero is true. */
export const flag: Codec<boolean> = {
  size: 4,
  read: (reader) => reader.int() !== 0,
  write: (writer, value) => writer.int(value ? 1 : 0),
}

/** Text, never absent. Zero bytes cannot be part of it: clients are written in C. */
export const string: Codec<string> = {
  size: 4,
  read(reader) {
    const text = reader.text(reader.count(STRING_BYTES, 1), 'utf8')
    if (text.includes('\0')) throw new RpcError('E_VALUE', 'a string with a zero byte')
    return text
  },
  write(writer, value) {
    const bytes = Buffer.from(value, 'utf8')
    if (bytes.length > STRING_BYTES) {
      throw new RpcError('E_LIMIT', `a string of ${bytes.length} bytes, where ${STRING_BYTES} fit`)
    }
    if (bytes.includes(0)) throw new RpcError('E_VALUE', 'a string with a zero byte')
    writer.uint(bytes.length)
    writer.opaque(bytes)
  },
}

/** Bytes with their count in front. */
export function opaque(max: number): Codec<Uint8Array> {
  return {
    size: 4,
    read: (reader) => reader.opaque(reader.count(max, 1)),
    write(writer, value) {
      limit(value.length, max)
      writer.uint(value.length)
      writer.opaque(value)
    },
  }
}

/** A UUID: 16 bytes, as the text that people write. */
export const uuid: Codec<string> = {
  size: 16,
  read(reader) {
    const hex = reader.text(16, 'hex')
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  },
  write(writer, value) {
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(value)) {
      throw new RpcError('E_VALUE', `${JSON.stringify(value)} is no UUID`)
    }
    writer.opaque(Buffer.from(value.replaceAll('-', ''), 'hex'))
  },
}

/** A value that may be absent. */
export function optional<T>(of: Codec<T>): Codec<T | undefined> {
  return {
    size: 4,
    read(reader) {
      // It is 0 or 1; libvirt takes everything but 0 for present, and go-libvirt says 2^24.
      return reader.uint() === 0 ? undefined : of.read(reader)
    },
    write(writer, value) {
      writer.uint(value === undefined ? 0 : 1)
      if (value !== undefined) of.write(writer, value)
    },
  }
}

/** Values of one type with their count in front. */
export function array<T>(of: Codec<T>, max: number = 16_384): Codec<T[]> {
  return {
    size: 4,
    read(reader) {
      const count = reader.count(max, of.size)
      const values: T[] = []
      for (let i = 0; i < count; i++) values.push(of.read(reader))
      return values
    },
    write(writer, values) {
      limit(values.length, max)
      writer.uint(values.length)
      for (const value of values) of.write(writer, value)
    },
  }
}

/** The type of a structure with fields of these codecs. */
export type Fields<S> = { [K in keyof S]: Value<S[K]> }

/** Fields one after the other, in the order that they are written here. */
export function struct<S extends Record<string, Codec<unknown>>>(fields: S): Codec<Fields<S>> {
  const entries = Object.entries(fields) as [string, Codec<unknown>][]
  return {
    size: entries.reduce((sum, [, codec]) => sum + codec.size, 0),
    read(reader) {
      const value: Record<string, unknown> = {}
      for (const [name, codec] of entries) value[name] = codec.read(reader)
      return value as Fields<S>
    },
    write(writer, value) {
      for (const [name, codec] of entries) {
        codec.write(writer, (value as Record<string, unknown>)[name])
      }
    },
  }
}

/** Nothing: what a procedure without arguments takes, and one without a result gives. */
export const nothing: Codec<void> = {
  size: 0,
  read: () => undefined,
  write: () => undefined,
}

/** `char[n]` in the protocol: each character is an int of its own, and the rest is zeros. */
export function charArray(length: number): Codec<string> {
  return {
    size: 4 * length,
    read(reader) {
      const codes: number[] = []
      for (let i = 0; i < length; i++) codes.push(reader.int() & 0xff)
      const end = codes.indexOf(0)
      return Buffer.from(end < 0 ? codes : codes.slice(0, end)).toString('utf8')
    },
    write(writer, value) {
      const bytes = Buffer.from(value, 'utf8')
      // One place is for the zero that ends it.
      limit(bytes.length, length - 1)
      for (let i = 0; i < length; i++) writer.int(bytes[i] ?? 0)
    },
  }
}

/** `char<n>` in the protocol: as many ints as there are characters, among them the zero at the end. */
export function chars(max: number): Codec<string> {
  return {
    size: 4,
    read(reader) {
      const count = reader.count(max, 4)
      const codes: number[] = []
      for (let i = 0; i < count; i++) codes.push(reader.int() & 0xff)
      const end = codes.indexOf(0)
      return Buffer.from(end < 0 ? codes : codes.slice(0, end)).toString('utf8')
    },
    write(writer, value) {
      const bytes = Buffer.from(value, 'utf8')
      limit(bytes.length + 1, max)
      writer.uint(bytes.length + 1)
      for (const byte of bytes) writer.int(byte)
      writer.int(0)
    },
  }
}

function limit(count: number, max: number): void {
  if (count > max) throw new RpcError('E_LIMIT', `${count} elements, where ${max} are allowed`)
}
