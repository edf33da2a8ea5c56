// What the first bytes of an image tell of it.
import { readSync } from 'node:fs'

/** What a qcow2 image has besides its size. */
export interface Qcow2Facts {
  /** Version 2 or 3, as QEMU names them. */
  readonly compat: '0.10' | '1.1'
  /** Bytes. */
  readonly clusterSize: number
  /** Names of features, of those that libvirt tells of. */
  readonly features: readonly ('lazy_refcounts' | 'extended_l2')[]
}

export interface ImageHeader {
  readonly format: 'raw' | 'qcow2'
  /** Bytes that a guest sees. */
  readonly capacity: number
  readonly qcow2?: Qcow2Facts
  /** Path as the image names it, and its format if the image says so. */
  readonly backing?: { readonly path: string; readonly format?: string }
}

/** Characters that XML cannot have. */
export const CONTROLS: RegExp = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/
/** Extension headers are in the first cluster; whoever writes them does not write more than this. */
const HEAD_BYTES = 4096
const BACKING_FORMAT = 0xe2792aca
const END = 0

/**
 * Reads the header of an image: of qcow2 (docs/interop/qcow2.txt of QEMU) magic, version, backing file, cluster size, size,
 * features, extensions. Anything else is raw.
 */
export function readHeader(file: number, size: number): ImageHeader {
  const head = Buffer.alloc(HEAD_BYTES)
  const length = readSync(file, head, 0, HEAD_BYTES, 0)
  const version = length < 72 || head.readUInt32BE(0) !== 0x514649fb ? 0 : head.readUInt32BE(4)
  // An image of a later version is none that anybody here can read.
  if (version !== 2 && !(version === 3 && length >= 104)) return { format: 'raw', capacity: size }
  const capacity = Number(head.readBigUInt64BE(24))
  const features: Qcow2Facts['features'][number][] = []
  if (version === 3) {
    if ((head.readBigUInt64BE(80) & 1n) !== 0n) features.push('lazy_refcounts')
    if ((head.readBigUInt64BE(72) & 16n) !== 0n) features.push('extended_l2')
  }
  const qcow2: Qcow2Facts = {
    compat: version === 3 ? '1.1' : '0.10',
    clusterSize: 2 ** Math.min(head.readUInt32BE(20), 31),
    features,
  }
  const path = backingPath(file, head, size)
  if (path === undefined) return { format: 'qcow2', capacity, qcow2 }
  const format = backingFormat(
    head.subarray(0, length),
    version === 3 ? head.readUInt32BE(100) : 72,
  )
  const backing = { path, ...(format === undefined ? {} : { format }) }
  return { format: 'qcow2', capacity, qcow2, backing }
}

function backingPath(file: number, head: Buffer, size: number): string | undefined {
  const at = Number(head.readBigUInt64BE(8))
  const length = head.readUInt32BE(16)
  if (at === 0 || length === 0 || length > 1023 || at + length > size) return undefined
  const name = Buffer.alloc(length)
  readSync(file, name, 0, length, at)
  return printable(name)
}

function backingFormat(head: Buffer, start: number): string | undefined {
  for (let at = start; at + 8 <= head.length;) {
    const type = head.readUInt32BE(at)
    const length = head.readUInt32BE(at + 4)
    if (type === END || at + 8 + length > head.length) return undefined
    if (type === BACKING_FORMAT) return printable(head.subarray(at + 8, at + 8 + length))
    at += 8 + Math.ceil(length / 8) * 8
  }
  return undefined
}

/** Whoever made the image chose it: a document has no place for some characters. */
function printable(bytes: Buffer): string {
  return bytes.toString().replaceAll(new RegExp(CONTROLS, 'g'), '?')
}
