// The guest's file system on a disk: an ext4 image made without root and without a loop device.
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as archive from '../lib/cpio.mjs'
import { Failure, capture, run } from '../lib/run.mjs'
import { systemFiles } from './initramfs.mjs'

/** Where the program is when it is not in the PATH of a user. */
const places = ['mke2fs', '/usr/sbin/mke2fs', '/sbin/mke2fs']
const packages = ['e2fsprogs', 'libext2fs2', 'libcom-err2', 'libblkid1', 'libuuid1', 'libss2']

/**
 * Writes a raw image with an ext4 file system that holds busybox and the init of the initramfs.
 * @param {string} image @param {string} busybox
 * @param {import('./apt.mjs').Apt} apt
 */
export async function ext4Image(image, busybox, apt) {
  const folder = mkdtempSync(join(tmpdir(), 'guest-disk-'))
  try {
    unpack([...systemFiles(busybox), { name: 'etc/on-disk', mode: archive.file }], folder)
    const { program, env } = await mke2fs(apt)
    rmSync(image, { force: true })
    const args = ['-q', '-t', 'ext4', '-L', 'root', '-E', 'root_owner=0:0', '-d', folder, image]
    if ((await run(program, [...args, '64M'], { env })) !== 0) {
      throw new Failure(`${program} could not make ${image}`)
    }
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** @param {import('./apt.mjs').Apt} apt */
async function mke2fs(apt) {
  const program = places.find((name) => capture(name, ['-V']) !== undefined)
  if (program !== undefined) return { program, env: {} }
  /** @type {string[]} */
  const roots = []
  for (const name of packages) {
    const root = await apt.fetch(name)
    if (root === undefined) throw new Failure('mke2fs is missing: install e2fsprogs')
    roots.push(root)
  }
  const libraries = roots.flatMap((root) =>
    ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((path) => join(root, path)),
  )
  const found = ['sbin/mke2fs', 'usr/sbin/mke2fs'].map((path) => join(roots[0] ?? '', path))
  return {
    program: found.find((path) => existsSync(path)) ?? 'mke2fs',
    env: { LD_LIBRARY_PATH: libraries.join(':') },
  }
}

/** @param {readonly import('../lib/cpio.mjs').Entry[]} entries @param {string} folder */
function unpack(entries, folder) {
  for (const { name, mode, data = '' } of entries) {
    const path = join(folder, name)
    if (mode === archive.directory) mkdirSync(path)
    else if (mode === archive.symlink) symlinkSync(String(data), path)
    else writeFileSync(path, data, { mode: mode & 0o777 })
  }
}
