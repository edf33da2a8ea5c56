// Writes cpio archives of the "newc" kind, the one that Linux unpacks as its initramfs.
// Format: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
import { Buffer } from 'node:buffer'

/**
 * @typedef {object} Entry
 * @property {string} name path without a leading slash
 * @property {number} mode type and permission bits, as in stat
 * @property {Buffer | string} [data] contents of a file, target of a symbolic link
 * @property {readonly [major: number, minor: number]} [device] of a device node
 */

export const directory = 0o040755
export const file = 0o100644
export const executable = 0o100755
export const symlink = 0o120777
export const characterDevice = 0o020600

/**
 * The archive of the given entries, in their order, owned by root and without time stamps, so that equal entries
 * give equal archives.
 * @param {readonly Entry[]} entries
 */
export function cpio(entries) {
  const parts = entries.map((entry, index) => record(entry, index + 1))
  parts.push(record({ name: 'TRAILER!!!', mode: 0 }, 0))
  return Buffer.concat(parts)
}

/** @param {Entry} entry @param {number} inode */
function record(entry, inode) {
  const name = Buffer.from(`${entry.name}\0`)
  const data = Buffer.from(entry.data ?? '')
  const [major, minor] = entry.device ?? [0, 0]
  const links = (entry.mode & 0o170000) === 0o040000 ? 2 : 1
  // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
  const fields = [
    inode,
    entry.mode,
    0,
    0,
    links,
    0,
    data.length,
    0,
    0,
    major,
    minor,
    name.length,
    0,
  ]
  const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`
  return Buffer.concat([pad4(Buffer.concat([Buffer.from(header), name])), pad4(data)])
}

/** @param {Buffer} bytes */
const pad4 = (bytes) => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)])
