import { RpcError } from './errors.ts'

// XDR, RFC 4506: big-endian, everything in units of four bytes. The reader never allocates more than it was given: a length is
// compared with the bytes that follow before anything is made of it.

/** The longest string of a message, in bytes of UTF-8. */
export const STRING_BYTES: number = 4 * 1024 * 1024

/** A decoder of one message's payload. */
export class XdrReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** Bytes that have not been read. */
  get left(): number {
    return this.#bytes.length - this.#at
  }

  /** @throws RpcError `E_TRAILING` if bytes are left over: sender and reader disagree on the layout then */
  end(): void {
    if (this.left > 0) throw new RpcError('E_TRAILING', `${this.left} bytes behind the last field`)
  }

  #take(count: number): number {
    if (count > this.left) {
      throw new RpcError(
        'E_TRUNCATED',
        `a field of ${count} bytes, of which ${this.left} are there`,
      )
    }
    const at = this.#at
    this.#at += count
    return at
  }

  int(): number {
    return this.#bytes.readInt32BE(this.#take(4))
  }

  uint(): number {
    return this.#bytes.readUInt32BE(this.#take(4))
  }

  hyper(): bigint {
    return this.#bytes.readBigInt64BE(this.#take(8))
  }

  uhyper(): bigint {
    return this.#bytes.readBigUInt64BE(this.#take(8))
  }

  double(): number {
    return this.#bytes.readDoubleBE(this.#take(8))
  }

  /** Bytes without a length in front, and their padding; a copy, as frames are views of what was received. */
  opaque(count: number): Buffer {
    if (count > this.left) {
      throw new RpcError('E_TRUNCATED', `${count} bytes announced, of which ${this.left} are there`)
    }
    const at = this.#take(count + (-count & 3))
    return Buffer.from(this.#bytes.subarray(at, at + count))
  }

  /** The same as text in UTF-8 or, for `hex`, as two digits a byte. */
  text(count: number, encoding: 'utf8' | 'hex'): string {
    if (count > this.left) {
      throw new RpcError('E_TRUNCATED', `${count} bytes announced, of which ${this.left} are there`)
    }
    const at = this.#take(count + (-count & 3))
    return this.#bytes.toString(encoding, at, at + count)
  }

  /** A count of things, each of at least `size` bytes. */
  count(max: number, size: number): number {
    const count = this.uint()
    if (count > max) throw new RpcError('E_LIMIT', `${count} elements, where ${max} are allowed`)
    if (count * size > this.left) {
      throw new RpcError('E_TRUNCATED', `${count} elements announced in ${this.left} bytes`)
    }
    return count
  }
}

/** An encoder: grows as needed up to `limit` bytes. */
export class XdrWriter {
  readonly #limit: number
  #bytes: Buffer = Buffer.allocUnsafe(256)
  #at: number

  /** The first `reserved` bytes are for whoever takes the result. */
  constructor(limit: number, reserved = 0) {
    this.#limit = limit
    this.#at = reserved
  }

  /** What was written; the writer is used up. */
  finish(): Buffer {
    return this.#bytes.subarray(0, this.#at)
  }

  #room(count: number): number {
    const at = this.#at
    const end = at + count
    if (end > this.#limit) {
      throw new RpcError('E_LIMIT', `a message of more than ${this.#limit} bytes`)
    }
    if (end > this.#bytes.length) {
      const grown = Buffer.allocUnsafe(Math.max(end, this.#bytes.length * 2))
      this.#bytes.copy(grown, 0, 0, at)
      this.#bytes = grown
    }
    this.#at = end
    return at
  }

  int(value: number): void {
    check(Number.isInteger(value) && value >= -0x80000000 && value <= 0x7fffffff, value, 'int')
    // First make room: that may replace the buffer.
    const at = this.#room(4)
    this.#bytes.writeInt32BE(value, at)
  }

  uint(value: number): void {
    check(Number.isInteger(value) && value >= 0 && value <= 0xffffffff, value, 'unsigned int')
    const at = this.#room(4)
    this.#bytes.writeUInt32BE(value, at)
  }

  hyper(value: bigint): void {
    check(BigInt.asIntN(64, value) === value, value, 'hyper')
    const at = this.#room(8)
    this.#bytes.writeBigInt64BE(value, at)
  }

  uhyper(value: bigint): void {
    check(BigInt.asUintN(64, value) === value, value, 'unsigned hyper')
    const at = this.#room(8)
    this.#bytes.writeBigUInt64BE(value, at)
  }

  double(value: number): void {
    const at = this.#room(8)
    this.#bytes.writeDoubleBE(value, at)
  }

  opaque(bytes: Uint8Array): void {
    const padded = bytes.length + (-bytes.length & 3)
    const at = this.#room(padded)
    this.#bytes.set(bytes, at)
    this.#bytes.fill(0, at + bytes.length, at + padded)
  }
}

function check(fits: boolean, value: unknown, type: string): void {
  if (!fits) throw new RpcError('E_VALUE', `${String(value)} does not fit the type ${type}`)
}
