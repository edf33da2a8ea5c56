// A volume of a pool: an image in the pool's folder, as far as its first bytes tell of it.
import { closeSync, constants, fstatSync, lstatSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import { element, printXml, text } from '../xml/index.ts'
import type { XmlElement } from '../xml/index.ts'

/** Characters that XML cannot have. */
const CONTROLS = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f]/

/** What is known of an image without reading all of it. */
export interface Volume {
  readonly name: string
  readonly path: string
  readonly format: 'raw' | 'qcow2'
  /** Bytes that a guest sees. */
  readonly capacity: number
  /** Bytes on the disk. */
  readonly allocation: number
  /** As the image names it. */
  readonly backing?: string
  readonly mode: number
  readonly uid: number
  readonly gid: number
}

/** How the names of files begin that are no volumes yet, or were left by a daemon that was killed. */
export const UNFINISHED = '.unfinished-'

/** Whether a pool can have a volume of that name: whatever is asked for stays in its folder, and can be in a document. */
export function isVolumeName(name: string): boolean {
  const bytes = Buffer.byteLength(name)
  if (bytes === 0 || bytes > 255 || name === '.' || name === '..') return false
  return !name.startsWith(UNFINISHED) && !name.includes('/') && !CONTROLS.test(name)
}

/** The name, if it is one. @throws VirtError */
export function checkVolumeName(name: string): string {
  if (isVolumeName(name)) return name
  const shown = JSON.stringify(name.slice(0, 80))
  throw new VirtError(
    ErrorCode.XML_ERROR,
    `XML error: volume name ${shown} is not the name of a file: 1 to 255 bytes without '/' and control characters`,
  )
}

/** The volume of a folder with a name; undefined where there is no regular file of that name. */
export function findVolume(folder: string, name: string): Volume | undefined {
  const path = join(folder, checkVolumeName(name))
  try {
    // To open a FIFO would wait for its writer.
    if (!lstatSync(path).isFile()) return undefined
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK
    const file = openSync(path, flags)
    try {
      const { size, blocks, mode, uid, gid } = fstatSync(file)
      const about = { name, path, allocation: blocks * 512, mode: mode & 0o777, uid, gid }
      return { ...about, ...readHeader(file, size) }
    } finally {
      closeSync(file)
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // Gone meanwhile, or nothing that this daemon may read: no volume of its.
    if (code === 'ENOENT' || code === 'EACCES' || code === 'ELOOP') return undefined
    throw error
  }
}

/** The header of a qcow2 image (docs/interop/qcow2.txt of QEMU): magic, version, backing file's place, size. */
function readHeader(file: number, size: number): Pick<Volume, 'format' | 'capacity' | 'backing'> {
  const header = Buffer.alloc(32)
  const isQcow2 =
    readSync(file, header, 0, 32, 0) === 32 &&
    header.readUInt32BE(0) === 0x514649fb &&
    (header.readUInt32BE(4) === 2 || header.readUInt32BE(4) === 3)
  if (!isQcow2) return { format: 'raw', capacity: size }
  const capacity = Number(header.readBigUInt64BE(24))
  const at = Number(header.readBigUInt64BE(8))
  const length = header.readUInt32BE(16)
  if (at === 0 || length === 0 || length > 1023 || at + length > size) {
    return { format: 'qcow2', capacity }
  }
  const name = Buffer.alloc(length)
  readSync(file, name, 0, length, at)
  // Whoever made the image chose it: a document has no place for these characters.
  const backing = name.toString().replaceAll(new RegExp(CONTROLS, 'g'), '?')
  return { format: 'qcow2', capacity, backing }
}

const line = (name: string, value: string | number, attributes: Record<string, string> = {}) =>
  element(name, attributes, [text(String(value))])

/** As `virsh vol-dumpxml` shows it. */
export function describeVolume(volume: Volume): string {
  const { name, path, format, capacity, allocation, backing, mode, uid, gid } = volume
  const permissions = element('permissions', {}, [
    line('mode', `0${mode.toString(8)}`),
    line('owner', uid),
    line('group', gid),
  ])
  const target = [line('path', path), element('format', { type: format }), permissions]
  const children: XmlElement[] = [
    line('name', name),
    line('key', path),
    line('capacity', capacity, { unit: 'bytes' }),
    line('allocation', allocation, { unit: 'bytes' }),
    element('target', {}, target),
  ]
  if (backing !== undefined) children.push(element('backingStore', {}, [line('path', backing)]))
  return printXml(element('volume', { type: 'file' }, children))
}
