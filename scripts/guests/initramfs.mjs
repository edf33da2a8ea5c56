// The guest's file system: busybox, its names, and an init that starts a shell on the console.
import { readFileSync } from 'node:fs'
import * as archive from '../lib/cpio.mjs'
import { Failure, capture } from '../lib/run.mjs'

/** @param {string} name */
const folder = (name) => ({ name, mode: archive.directory })

/**
 * An uncompressed cpio archive.
 * @param {string} busybox path of a statically linked busybox for x86-64
 */
export function initramfs(busybox) {
  const applets = capture(busybox, ['--list'])?.trim().split('\n')
  if (applets === undefined) throw new Failure(`${busybox} --list failed: is it a busybox?`)
  const links = applets
    .filter((name) => name !== 'busybox')
    .map((name) => ({ name: `bin/${name}`, mode: archive.symlink, data: 'busybox' }))
  return archive.cpio([
    ...[
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
    ].map(folder),
    // The kernel opens the console for init before anything is mounted.
    { name: 'dev/console', mode: archive.characterDevice, device: [5, 1] },
    { name: 'dev/null', mode: archive.characterDevice, device: [1, 3] },
    { name: 'etc/passwd', mode: archive.file, data: 'root::0:0:root:/root:/bin/sh\n' },
    { name: 'etc/group', mode: archive.file, data: 'root:x:0:\n' },
    { name: 'bin/busybox', mode: archive.executable, data: readFileSync(busybox) },
    ...links,
    {
      name: 'init',
      mode: archive.executable,
      data: readFileSync(new URL('init.sh', import.meta.url)),
    },
  ])
}
