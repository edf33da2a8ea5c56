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
  await systemTree(busybox, async (tree) => {
    rmSync(image, { force: true })
    await fileSystem(tree, image, 64, apt)
  })
}

/**
 * Gives `use` a folder with busybox and the init of the initramfs, and removes it afterwards.
 * @param {string} busybox @param {(folder: string) => Promise<void>} use
 */
export async function systemTree(busybox, use) {
  const folder = mkdtempSync(join(tmpdir(), 'guest-disk-'))
  try {
    addFiles([...systemFiles(busybox), { name: 'etc/on-disk', mode: archive.file }], folder)
    await use(folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/**
 * Writes an ext4 file system with what is in a folder.
 * @param {string} folder @param {string} image @param {number} sizeMib
 * @param {import('./apt.mjs').Apt} apt
 * @param {number} [offset] where it begins in the image
 */
export async function fileSystem(folder, image, sizeMib, apt, offset = 0) {
  const { program, env } = await mke2fs(apt)
  const extended = `root_owner=0:0,offset=${offset}`
  const args = ['-q', '-t', 'ext4', '-L', 'root', '-E', extended, '-d', folder, image]
  if ((await run(program, [...args, `${sizeMib}M`], { env })) !== 0) {
    throw new Failure(`${program} could not make ${image}`)
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

/**
 * Adds files to a folder. A link does not take the place of what is there: a program goes before busybox's of that name.
 * @param {readonly import('../lib/cpio.mjs').Entry[]} entries @param {string} folder
 */
export function addFiles(entries, folder) {
  for (const { name, mode, data = '' } of entries) {
    const path = join(folder, name)
    if (mode === archive.directory) mkdirSync(path, { recursive: true })
    else if (mode !== archive.symlink) writeFileSync(path, data, { mode: mode & 0o777 })
    else if (!existsSync(path)) symlinkSync(String(data), path)
  }
}
