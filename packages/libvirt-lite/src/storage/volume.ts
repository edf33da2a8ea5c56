// A volume of a pool: an image in the pool's folder, as far as its first bytes tell of it.
import { closeSync, constants, fstatSync, lstatSync, openSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import { CONTROLS, readHeader } from './header.ts'
import type { ImageHeader } from './header.ts'

/** What is known of a file. */
export interface FileFacts {
  /** Permissions. */
  readonly mode: number
  readonly uid: number
  readonly gid: number
  /** Nanoseconds since 1970. */
  readonly times: { readonly atime: bigint; readonly mtime: bigint; readonly ctime: bigint }
}

/** What is known of an image without reading all of it. */
export interface ImageFacts extends FileFacts, ImageHeader {
  /** Bytes on the disk. */
  readonly allocation: number
  /** Length of the file. */
  readonly physical: number
}

export interface Volume extends ImageFacts {
  readonly name: string
  readonly path: string
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
  if (name.includes('/')) {
    const text = `Requested operation is not valid: volume name '${name}' cannot contain '/'`
    throw new VirtError(ErrorCode.OPERATION_INVALID, text)
  }
  const shown = JSON.stringify(name.slice(0, 80))
  throw new VirtError(
    ErrorCode.XML_ERROR,
    `XML error: volume name ${shown} is not the name of a file: 1 to 255 bytes without control characters, and not . or ..`,
  )
}

/** The volume of a folder with a name; undefined where there is no regular file of that name. */
export function findVolume(folder: string, name: string): Volume | undefined {
  if (!isVolumeName(name)) return undefined
  const path = join(folder, name)
  const facts = statImage(path, { follow: false })
  return facts === undefined ? undefined : { name, path, ...facts }
}

/** What a regular file is as an image; undefined where there is none, or none that this daemon may read. */
export function statImage(path: string, { follow = true } = {}): ImageFacts | undefined {
  try {
    // To open a FIFO would wait for its writer, and to open a device may do anything.
    if (!(follow ? statSync(path) : lstatSync(path)).isFile()) return undefined
    const links = follow ? 0 : constants.O_NOFOLLOW
    const file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | links)
    try {
      const stat = fstatSync(file, { bigint: true })
      if (!stat.isFile()) return undefined
      const size = Number(stat.size)
      return {
        allocation: Number(stat.blocks) * 512,
        physical: size,
        mode: Number(stat.mode & 0o777n),
        uid: Number(stat.uid),
        gid: Number(stat.gid),
        times: { atime: stat.atimeNs, mtime: stat.mtimeNs, ctime: stat.ctimeNs },
        ...readHeader(file, size),
      }
    } finally {
      closeSync(file)
    }
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    // Gone meanwhile, or nothing that this daemon may read: no volume of its.
    if (['ENOENT', 'EACCES', 'ELOOP', 'ENOTDIR', 'ENXIO', 'ENAMETOOLONG'].includes(code ?? '')) {
      return undefined
    }
    throw error
  }
}
