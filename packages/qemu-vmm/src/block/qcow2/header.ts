import { BlockError } from '../errors.ts'
import { getU64, hex, viewOf } from './bytes.ts'
import type { CompressionType } from './codecs.ts'

/** The specification is docs/interop/qcow2.txt of QEMU; names are its own. */

export const QCOW2_MAGIC = 0x514649fb
export const INCOMPAT_DIRTY = 1
export const INCOMPAT_CORRUPT = 2
const INCOMPAT_DATA_FILE = 4
export const INCOMPAT_COMPRESSION = 8
const INCOMPAT_EXTL2 = 16
export const COMPAT_LAZY_REFCOUNTS = 1
export const EXT_BACKING_FORMAT = 0xe2792aca
export const EXT_FEATURE_NAMES = 0x6803f857
const EXT_ENCRYPTION = 0x0537be77

/** Limits that QEMU has too; a table that is larger is hostile or damaged. */
export const MAX_SNAPSHOTS = 65536
export const MAX_L1_BYTES: number = 32 << 20
export const MAX_REFTABLE_BYTES: number = 8 << 20
const MAX_BACKING_NAME = 1023
const MAX_EXTENSIONS = 1024

export interface HeaderExtension {
  readonly type: number
  readonly data: Uint8Array
}

export interface Qcow2Header {
  readonly version: 2 | 3
  readonly clusterBits: number
  readonly sizeBytes: number
  readonly l1Entries: number
  readonly l1Offset: number
  readonly refcountTableOffset: number
  readonly refcountTableClusters: number
  readonly snapshots: number
  readonly snapshotsOffset: number
  readonly incompatible: number
  readonly compatible: number
  /** The low 32 autoclear bits; whether any bit at all is set is in `autoclearSet`. */
  readonly autoclearSet: boolean
  readonly refcountOrder: number
  readonly headerLength: number
  readonly compression: CompressionType
  readonly backingFile: string | undefined
  readonly backingFormat: string | undefined
  readonly extensions: readonly HeaderExtension[]
}

/** An image that is not what its format allows. */
export function formatError(message: string, errno: string = 'EINVAL'): BlockError {
  return new BlockError('E_BLOCK_FORMAT', message, { errno })
}

/**
 * Reads and judges a header.
 * @param bytes the beginning of the file, the whole first cluster if the file is that long
 * @param fileBytes how long the file is
 * @throws BlockError E_BLOCK_FORMAT
 */
export function parseHeader(bytes: Uint8Array, fileBytes: number): Qcow2Header {
  if (bytes.byteLength < 72) throw formatError('Image is not in qcow2 format: it is too short')
  const view = viewOf(bytes)
  if (view.getUint32(0) !== QCOW2_MAGIC) throw formatError('Image is not in qcow2 format')
  const version = view.getUint32(4)
  if (version !== 2 && version !== 3) {
    throw formatError(`Unsupported qcow2 version ${version}`, 'ENOTSUP')
  }
  const clusterBits = view.getUint32(20)
  if (clusterBits < 9 || clusterBits > 21) {
    throw formatError(`Unsupported cluster size: 2^${clusterBits}`)
  }
  const clusterBytes = 2 ** clusterBits
  if (view.getUint32(32) !== 0) {
    throw formatError('Encrypted qcow2 images are not supported', 'ENOTSUP')
  }
  if (version === 3 && bytes.byteLength < 104) throw formatError('qcow2 header is truncated')
  const headerLength = version === 2 ? 72 : view.getUint32(100)
  if (version === 3 && headerLength < 104) throw formatError('qcow2 header too short')
  if (headerLength > clusterBytes) throw formatError('qcow2 header exceeds cluster size')
  if (headerLength > bytes.byteLength) throw formatError('qcow2 header is truncated')
  const refcountOrder = version === 2 ? 4 : view.getUint32(96)
  if (refcountOrder > 6) {
    throw formatError('Reference count entry width too large; may not exceed 64 bits')
  }
  const incompatible = version === 2 ? 0 : view.getUint32(76)
  const extensions = readExtensions(bytes, headerLength, clusterBytes, view)
  judgeFeatures(view, version, incompatible, headerLength, extensions)
  const header: Qcow2Header = {
    version,
    clusterBits,
    sizeBytes: getU64(view, 24),
    l1Entries: view.getUint32(36),
    l1Offset: getU64(view, 40),
    refcountTableOffset: getU64(view, 48),
    refcountTableClusters: view.getUint32(56),
    snapshots: view.getUint32(60),
    snapshotsOffset: getU64(view, 64),
    incompatible,
    compatible: version === 2 ? 0 : view.getUint32(84),
    autoclearSet: version === 3 && (view.getUint32(88) !== 0 || view.getUint32(92) !== 0),
    refcountOrder,
    headerLength,
    compression: (incompatible & INCOMPAT_COMPRESSION) === 0 ? 'zlib' : 'zstd',
    backingFile: readBackingName(bytes, view, clusterBytes),
    backingFormat: backingFormat(extensions),
    extensions,
  }
  judgeTables(header, clusterBytes, fileBytes)
  return header
}

function readBackingName(
  bytes: Uint8Array,
  view: DataView,
  clusterBytes: number,
): string | undefined {
  const offset = getU64(view, 8)
  if (offset === 0) return undefined
  const length = view.getUint32(16)
  if (offset > clusterBytes) throw formatError('Invalid backing file offset')
  if (length > Math.min(MAX_BACKING_NAME, clusterBytes - offset)) {
    throw formatError('Backing file name too long')
  }
  if (offset + length > bytes.byteLength) throw formatError('Backing file name is truncated')
  return length === 0 ? undefined : Buffer.from(bytes.subarray(offset, offset + length)).toString()
}

function backingFormat(extensions: readonly HeaderExtension[]): string | undefined {
  const found = extensions.find(({ type }) => type === EXT_BACKING_FORMAT)
  return found === undefined ? undefined : Buffer.from(found.data).toString()
}

function readExtensions(
  bytes: Uint8Array,
  start: number,
  clusterBytes: number,
  view: DataView,
): HeaderExtension[] {
  const backing = getU64(view, 8)
  const end = Math.min(backing === 0 ? clusterBytes : backing, clusterBytes, bytes.byteLength)
  const found: HeaderExtension[] = []
  for (let at = start; at + 8 <= end;) {
    const type = view.getUint32(at)
    const length = view.getUint32(at + 4)
    if (type === 0) break
    at += 8
    if (length > end - at) throw formatError('Header extension too large')
    if (found.length === MAX_EXTENSIONS) throw formatError('Too many header extensions')
    found.push({ type, data: bytes.slice(at, at + length) })
    at += Math.ceil(length / 8) * 8
  }
  return found
}

function judgeFeatures(
  view: DataView,
  version: number,
  incompatible: number,
  headerLength: number,
  extensions: readonly HeaderExtension[],
): void {
  if (version === 2) return
  const high = view.getUint32(72)
  const known = INCOMPAT_DIRTY | INCOMPAT_CORRUPT | INCOMPAT_COMPRESSION
  const unknown = (incompatible & ~known) >>> 0
  if (unknown !== 0 || high !== 0) {
    const names: string[] = []
    for (let bit = 0; bit < 64; bit++) {
      const word = bit < 32 ? unknown : high
      if (((word >>> (bit & 31)) & 1) === 1) names.push(featureName(extensions, bit))
    }
    throw formatError(`Unsupported qcow2 feature(s): ${names.join(', ')}`, 'ENOTSUP')
  }
  const compression = headerLength > 104 ? view.getUint8(104) : 0
  if (((incompatible & INCOMPAT_COMPRESSION) !== 0) !== (compression !== 0)) {
    throw formatError('qcow2: Compression type and its incompatible feature bit disagree')
  }
  if (compression > 1) {
    const message = `qcow2: unsupported compression type ${compression}: only zlib and zstd are known`
    throw formatError(message, 'ENOTSUP')
  }
  if (extensions.some(({ type }) => type === EXT_ENCRYPTION)) {
    throw formatError('Encrypted qcow2 images are not supported', 'ENOTSUP')
  }
}

/** What the image itself calls an incompatible feature, or what we do. */
function featureName(extensions: readonly HeaderExtension[], bit: number): string {
  const table = extensions.find(({ type }) => type === EXT_FEATURE_NAMES)?.data ?? new Uint8Array(0)
  for (let at = 0; at + 48 <= table.byteLength; at += 48) {
    if (table[at] !== 0 || table[at + 1] !== bit) continue
    const name = Buffer.from(table.subarray(at + 2, at + 48)).toString('latin1')
    return name.split('\0')[0]!.replaceAll(/[^\x20-\x7e]/g, '?')
  }
  if (2 ** bit === INCOMPAT_DATA_FILE) return 'external data file'
  if (2 ** bit === INCOMPAT_EXTL2) return 'extended L2 entries'
  return `Unknown incompatible feature: ${hex(2 ** bit)}`
}

function judgeTables(header: Qcow2Header, clusterBytes: number, fileBytes: number): void {
  const { sizeBytes, l1Entries, l1Offset, refcountTableOffset, refcountTableClusters } = header
  if (!Number.isSafeInteger(sizeBytes)) throw formatError('Image is too big: more than 2^53 bytes')
  const place = (name: string, offset: number, length: number): void => {
    if (offset % clusterBytes !== 0 || !Number.isSafeInteger(offset + length)) {
      throw formatError(`${name} offset invalid: ${hex(offset)}`)
    }
    if (length > 0 && (offset === 0 || offset + length > Math.ceil(fileBytes / 512) * 512)) {
      throw formatError(`${name} at ${hex(offset)} is outside the file of ${fileBytes} bytes`)
    }
  }
  if (refcountTableClusters === 0)
    throw formatError('Image does not contain a reference count table')
  if (refcountTableClusters * clusterBytes > MAX_REFTABLE_BYTES) {
    throw formatError('Image reference count table is too large', 'EFBIG')
  }
  place('Reference count table', refcountTableOffset, refcountTableClusters * clusterBytes)
  if (header.snapshots > MAX_SNAPSHOTS) throw formatError('Snapshot table is too large', 'EFBIG')
  place('Snapshot table', header.snapshotsOffset, header.snapshots * 40)
  if (l1Entries * 8 > MAX_L1_BYTES) throw formatError('Active L1 table is too large', 'EFBIG')
  place('Active L1 table', l1Offset, l1Entries * 8)
  const needed = Math.ceil(sizeBytes / (clusterBytes * (clusterBytes / 8)))
  if (needed * 8 > MAX_L1_BYTES) throw formatError('Image is too big', 'EFBIG')
  if (l1Entries < needed) throw formatError('L1 table is too small')
}
