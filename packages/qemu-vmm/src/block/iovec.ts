/** Lists of buffers, as readv(2) and writev(2) take them. */

export type Iovec = readonly Uint8Array[]

/** How many bytes the buffers have together. */
export function iovLength(iov: Iovec): number {
  let length = 0
  for (let i = 0; i < iov.length; i++) length += iov[i]!.byteLength
  return length
}

/** The `length` bytes from byte `from` on, over the same memory. The list itself when that is all of it. */
export function iovSlice(iov: Iovec, from: number, length: number): Iovec {
  if (from === 0 && length === iovLength(iov)) return iov
  const out: Uint8Array[] = []
  let skip = from
  let rest = length
  for (const part of iov) {
    if (rest === 0) break
    if (skip >= part.byteLength) {
      skip -= part.byteLength
      continue
    }
    const take = Math.min(rest, part.byteLength - skip)
    out.push(part.subarray(skip, skip + take))
    skip = 0
    rest -= take
  }
  return out
}

/** Fills `length` bytes from byte `from` on with zeros. */
export function iovZero(iov: Iovec, from: number, length: number): void {
  for (const part of iovSlice(iov, from, length)) part.fill(0)
}

/** Copies a buffer into the list, from byte `from` on. */
export function iovFrom(iov: Iovec, from: number, source: Uint8Array): void {
  let at = 0
  for (const part of iovSlice(iov, from, source.byteLength)) {
    part.set(source.subarray(at, at + part.byteLength))
    at += part.byteLength
  }
}

/** Copies the list into one buffer. */
export function iovTo(iov: Iovec, target: Uint8Array): void {
  let at = 0
  for (const part of iov) {
    target.set(part, at)
    at += part.byteLength
  }
}

const BLOCK = new Uint8Array(1 << 16)

/** Buffers that hold `length` zeros; they share one small block and must not be written to. */
export function zeros(length: number): Uint8Array[] {
  const out: Uint8Array[] = []
  for (let rest = length; rest > 0; rest -= BLOCK.byteLength) {
    out.push(rest < BLOCK.byteLength ? BLOCK.subarray(0, rest) : BLOCK)
  }
  return out
}

/** Whether all bytes are zero. */
export function isZero(bytes: Uint8Array): boolean {
  const { byteLength } = bytes
  let i = 0
  for (; i < byteLength && ((bytes.byteOffset + i) & 3) !== 0; i++) if (bytes[i] !== 0) return false
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset + i, (byteLength - i) >> 2)
  for (let word = 0; word < words.length; word++) if (words[word] !== 0) return false
  for (i += words.byteLength; i < byteLength; i++) if (bytes[i] !== 0) return false
  return true
}
