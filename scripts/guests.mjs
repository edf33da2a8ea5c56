// Guests for the demo, the tests and the benchmarks: Debian's cloud kernel and a busybox initramfs, in .cache/guests.
//
//   vmlinuz            the bzImage as Debian ships it
//   vmlinux            the ELF file inside
//   initramfs.cpio     busybox and a shell on the console; initramfs.cpio.gz is the same, compressed
//   manifest.json      {release, kernel, busybox}: the kernel's release and where the files come from
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { Apt } from './guests/apt.mjs'
import { initramfs } from './guests/initramfs.mjs'
import { vmlinux } from './guests/vmlinux.mjs'
import { cache } from './lib/paths.mjs'
import { Failure, log, script } from './lib/run.mjs'
import { filesBelow, hashFiles, stampIs, writeStamp } from './lib/stamp.mjs'

const folder = join(cache, 'guests')
const kernelPackage = 'linux-image-cloud-amd64'
const advice = `This machine cannot fetch Debian packages. Either
  - run on Debian 12 or newer, or
  - give your own files:
      KERNEL=/path/to/vmlinuz   a 64-bit Linux kernel with a serial console
      BUSYBOX=/path/to/busybox  a statically linked busybox for x86-64`

/**
 * Makes the guest files ready, from packages or from KERNEL and BUSYBOX of the environment.
 * @returns {Promise<{folder: string, kernel: string, vmlinux: string, initrd: string}>}
 */
export async function guests() {
  const paths = {
    folder,
    kernel: join(folder, 'vmlinuz'),
    vmlinux: join(folder, 'vmlinux'),
    initrd: join(folder, 'initramfs.cpio'),
  }
  const own = { kernel: ownFile('KERNEL'), busybox: ownFile('BUSYBOX') }
  const makers = filesBelow(
    ['guests', 'lib/cpio.mjs', 'lib/lz4.mjs', 'guests.mjs'].map((name) =>
      fileURLToPath(new URL(name, import.meta.url)),
    ),
  )
  const value = hashFiles(makers, JSON.stringify(own))
  const stamp = join(folder, '.stamp')
  if (stampIs(stamp, value) && existsSync(paths.initrd)) return paths

  mkdirSync(folder, { recursive: true })
  const { kernel, busybox } = own.kernel && own.busybox ? own : await fromPackages(own)
  copyFileSync(kernel, paths.kernel)
  const image = readFileSync(kernel)
  writeFileSync(paths.vmlinux, vmlinux(image))
  const archive = initramfs(busybox)
  writeFileSync(paths.initrd, archive)
  writeFileSync(`${paths.initrd}.gz`, gzipSync(archive, { level: 9 }))
  writeFileSync(
    join(folder, 'manifest.json'),
    `${JSON.stringify({ release: release(image), kernel, busybox }, null, 2)}\n`,
  )
  writeStamp(stamp, value)
  log(`guest files are in ${folder}`)
  return paths
}

/** @param {string} name */
function ownFile(name) {
  const path = process.env[name]
  if (path && !existsSync(path)) throw new Failure(`${name}=${path}: there is no such file`)
  return path || undefined
}

/** @param {{kernel?: string | undefined, busybox?: string | undefined}} own */
async function fromPackages(own) {
  let apt
  try {
    apt = new Apt(folder)
  } catch (error) {
    if (error instanceof Failure) throw new Failure(`${error.message}. ${advice}`)
    throw error
  }
  for (let attempt = 0; attempt < 2; attempt++) {
    // The system's own lists first; if they are missing or name files that are gone, fresh ones.
    if (attempt > 0) await apt.update()
    const image = apt.dependency(kernelPackage, 'linux-image-')
    const kernel = own.kernel ?? (image && kernelIn(await apt.fetch(image)))
    const busyboxRoot = own.busybox ? undefined : await apt.fetch('busybox-static')
    const busybox = own.busybox ?? (busyboxRoot && join(busyboxRoot, 'bin/busybox'))
    if (kernel && busybox) return { kernel, busybox }
  }
  throw new Failure(`${kernelPackage} and busybox-static could not be downloaded. ${advice}`)
}

/** @param {string | undefined} unpacked */
function kernelIn(unpacked) {
  if (unpacked === undefined) return undefined
  const boot = join(unpacked, 'boot')
  const name = readdirSync(boot).find((entry) => entry.startsWith('vmlinuz-'))
  return name && join(boot, name)
}

/** @param {Buffer} image the bzImage; its header points to the version string */
function release(image) {
  const at = image.readUInt16LE(0x20e) + 0x200
  return image.toString('latin1', at, image.indexOf(0, at)).split(' ')[0]
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await script(async () => void (await guests()))
