// The guest's file system: busybox, its names, and an init that starts a shell on the console.
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import * as archive from '../lib/cpio.mjs'
import { Failure, capture } from '../lib/run.mjs'

const folders = [
  'bin',
  'dev',
  'etc',
  'proc',
  'root',
  'sbin',
  'sys',
  'tmp',
  'usr',
  'usr/bin',
  'usr/sbin',
]

/**
 * What is in the guest's file system, but for device nodes.
 * @param {string} busybox path of a statically linked busybox for x86-64
 * @returns {import('../lib/cpio.mjs').Entry[]}
 */
export function systemFiles(busybox) {
  const applets = capture(busybox, ['--list'])?.trim().split('\n')
  if (applets === undefined) throw new Failure(`${busybox} --list failed: is it a busybox?`)
  const links = applets
    .filter((name) => name !== 'busybox')
    .map((name) => ({ name: `bin/${name}`, mode: archive.symlink, data: 'busybox' }))
  return [
    ...folders.map((name) => ({ name, mode: archive.directory })),
    { name: 'etc/passwd', mode: archive.file, data: 'root::0:0:root:/root:/bin/sh\n' },
    { name: 'etc/group', mode: archive.file, data: 'root:x:0:\n' },
    { name: 'bin/busybox', mode: archive.executable, data: readFileSync(busybox) },
    ...links,
    {
      name: 'init',
      mode: archive.executable,
      data: readFileSync(new URL('init.sh', import.meta.url)),
    },
  ]
}

/**
 * An uncompressed cpio archive.
 * @param {string} busybox path of a statically linked busybox for x86-64
 */
export function initramfs(busybox) {
  return archive.cpio([
    ...systemFiles(busybox),
    // The kernel opens the console for init before anything is mounted.
    { name: 'dev/console', mode: archive.characterDevice, device: [5, 1] },
    { name: 'dev/null', mode: archive.characterDevice, device: [1, 3] },
  ])
}

/**
 * An archive with kernel modules, for init to load in this order; it goes behind the other one.
 * @param {readonly string[]} modules paths
 */
export function moduleArchive(modules) {
  return archive.cpio([
    { name: 'lib', mode: archive.directory },
    { name: 'lib/modules', mode: archive.directory },
    ...modules.map((path) => ({
      name: `lib/modules/${basename(path)}`,
      mode: archive.file,
      data: readFileSync(path),
    })),
    {
      name: 'lib/modules/order',
      mode: archive.file,
      data: modules.map((path) => `${basename(path, '.ko')}\n`).join(''),
    },
  ])
}
