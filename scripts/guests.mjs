// Guests for the demo, the tests and the benchmarks: Debian's cloud kernel and a busybox initramfs, in .cache/guests.
//
//   vmlinuz            the bzImage as Debian ships it
//   vmlinux            the ELF file inside
//   manifest.json      {release, kernel}: the kernel's release and the file it comes from
//   initramfs.cpio     busybox and a shell on the console; initramfs.cpio.gz is the same, compressed
//   initrd-disk.cpio   the same with the kernel's modules for VirtIO: it goes on from the disk that root= names
//   firmware           SeaBIOS and its VGA BIOS, for -L
//   ipxe               iPXE for network cards, for -L
//   ovmf               UEFI firmware and its variable stores, for -L
//   initrd-ata.cpio    the same with the modules for IDE disks and CD drives
//   cards              vmlinuz of Debian's kernel for all machines, and initrd.cpio with its drivers for network cards
//   root.qcow2         busybox and the same init on an ext4 file system
//   boot.qcow2         a whole disk: partition table, GRUB, kernel, initial RAM disk and the same file system
//   i386               vmlinuz and initramfs.cpio of 32-bit packages; made for the long tests of guests only
//   cd                 CDs: GRUB's rescue, memtest86+, Debian's installer; made for the long tests of guests only
//   debian.qcow2       a whole Debian with systemd, and debian32.qcow2 for 32-bit machines; for the long tests of guests only
//   engine-suite       the programs of the engine benchmark, for the host
//   initrd-engine.cpio the initramfs with them; made for that benchmark only
//   programs.img       Debian's programs on an ext4 file system, for that benchmark only
//
// KERNEL and BUSYBOX of the environment name files to use in place of the packages' ones, SEABIOS, IPXE and
// OVMF folders with firmware.
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { Apt } from './guests/apt.mjs'
import { cdNames, makeCds } from './guests/cd.mjs'
import { debianDisk, debianRecipe, installDebian } from './guests/debian.mjs'
import { ext4Image, systemTree } from './guests/disk.mjs'
import { compileSuite, engineSources, writeSuiteInitrd } from './guests/engine.mjs'
import { bootableDisk, grubMenu } from './guests/grub.mjs'
import { initramfs, moduleArchive } from './guests/initramfs.mjs'
import { debianPackages, debianTree, programSources, programsImage } from './guests/programs.mjs'
import { vmlinux } from './guests/vmlinux.mjs'
import {
  ataModules,
  cardModules,
  diskModules,
  kernelModules,
  release,
} from './lib/kernel-modules.mjs'
import { bin, cache } from './lib/paths.mjs'
import { Failure, log, must, script } from './lib/run.mjs'
import { filesBelow, hashFiles, stampIs, writeStamp } from './lib/stamp.mjs'

const folder = join(cache, 'guests')
const advice = `Either run on Debian 12 or newer, where apt-get fetches it without root, or give your own:
  KERNEL=/path/to/vmlinuz   a 64-bit Linux kernel (bzImage) with a serial console
  BUSYBOX=/path/to/busybox  a statically linked busybox for x86-64
  SEABIOS=/path/to/folder   bios-256k.bin and vgabios-stdvga.bin of SeaBIOS
  IPXE=/path/to/folder      efi-virtio.rom, efi-e1000.rom, efi-e1000e.rom and efi-rtl8139.rom of iPXE
  OVMF=/path/to/folder      OVMF.fd, OVMF_CODE, OVMF_VARS with and without _4M, OVMF_CODE_4M.secboot, OVMF_VARS_4M.ms`

/**
 * The kernel, as a bzImage and as the ELF file inside.
 * @returns {Promise<{kernel: string, vmlinux: string}>} paths
 */
export async function kernelGuest() {
  const paths = { kernel: join(folder, 'vmlinuz'), vmlinux: join(folder, 'vmlinux') }
  await once('kernel', 'KERNEL', Object.values(paths), async (own) => {
    const kernel = own ?? (await fromPackage('Linux', (apt) => fetchKernel(apt)))
    const image = readFileSync(kernel)
    writeFileSync(paths.vmlinux, vmlinux(image))
    copyFileSync(kernel, paths.kernel)
    const manifest = JSON.stringify({ release: release(image), kernel }, undefined, 2)
    writeFileSync(join(folder, 'manifest.json'), `${manifest}\n`)
  })
  return paths
}

/**
 * The initramfs with a shell on the console.
 * @returns {Promise<{initrd: string}>} path of the uncompressed archive
 */
export async function initrdGuest() {
  const paths = { initrd: join(folder, 'initramfs.cpio') }
  await once('initrd', 'BUSYBOX', Object.values(paths), async (own) => {
    const archive = initramfs(own ?? (await fromPackage('busybox', fetchBusybox)))
    writeFileSync(paths.initrd, archive)
    writeFileSync(`${paths.initrd}.gz`, gzipSync(archive, { level: 9 }))
  })
  return paths
}

/**
 * The disk, and the initial RAM disk that finds it. Needs the packages' own kernel and a build.
 * @returns {Promise<{initrd: string, disk: string}>} paths
 */
export async function diskGuest() {
  const { kernel } = await kernelGuest()
  const { initrd } = await initrdGuest()
  const paths = { initrd: join(folder, 'initrd-disk.cpio'), disk: join(folder, 'root.qcow2') }
  await once('disk', 'BUSYBOX', Object.values(paths), async (own) => {
    const apt = new Apt(folder)
    const archive = moduleArchive(kernelModules(kernel, diskModules, folder))
    writeFileSync(paths.initrd, Buffer.concat([readFileSync(initrd), archive]))
    const raw = join(folder, 'root.img')
    await ext4Image(raw, own ?? (await fromPackage('busybox', fetchBusybox)), apt)
    const convert = ['convert', '-f', 'raw', '-O', 'qcow2', raw, paths.disk]
    await must(bin('qemu-img'), convert)
    rmSync(raw)
  })
  return paths
}

/**
 * Firmware for PCs, of Debian's package even where another is installed.
 * @returns {Promise<string>} the folder that it is in
 */
export async function firmwareGuest() {
  const files = ['bios-256k.bin', 'vgabios-stdvga.bin']
  return await packageFiles('firmware', 'SEABIOS', 'seabios', 'usr/share/seabios', files)
}

/**
 * iPXE for network cards, of Debian's package even where another is installed.
 * @returns {Promise<string>} the folder that it is in
 */
export async function ipxeGuest() {
  const files = ['virtio', 'e1000', 'e1000e', 'rtl8139'].map((card) => `efi-${card}.rom`)
  return await packageFiles('ipxe', 'IPXE', 'ipxe-qemu', 'usr/lib/ipxe/qemu', files)
}

/**
 * UEFI firmware for PCs, of Debian's package even where another is installed.
 * @returns {Promise<string>} the folder that it is in
 */
export async function ovmfGuest() {
  const sizes = ['CODE', 'VARS', 'CODE_4M', 'VARS_4M', 'CODE_4M.secboot', 'VARS_4M.ms']
  const parts = sizes.map((part) => `OVMF/OVMF_${part}.fd`)
  return await packageFiles('ovmf', 'OVMF', 'ovmf', 'usr/share', [...parts, 'ovmf/OVMF.fd'])
}

/**
 * The disk that firmware boots. Needs what `diskGuest` needs.
 * @returns {Promise<string>} its path
 */
export async function bootGuest() {
  const { kernel } = await kernelGuest()
  const { initrd } = await diskGuest()
  const disk = join(folder, 'boot.qcow2')
  await once('boot', 'BUSYBOX', [disk], async (own) => {
    const apt = new Apt(folder)
    const busybox = own ?? (await fromPackage('busybox', fetchBusybox))
    const raw = join(folder, 'boot.img')
    await systemTree(busybox, async (tree) => {
      mkdirSync(join(tree, 'boot/grub'), { recursive: true })
      copyFileSync(kernel, join(tree, 'boot/vmlinuz'))
      copyFileSync(initrd, join(tree, 'boot/initrd'))
      const files = { kernel: '/boot/vmlinuz', initrd: '/boot/initrd' }
      const menu = grubMenu('console=ttyS0 quiet root=/dev/vda1', files)
      writeFileSync(join(tree, 'boot/grub/grub.cfg'), menu)
      await bootableDisk(raw, tree, 64, apt)
    })
    await must(bin('qemu-img'), ['convert', '-f', 'raw', '-O', 'qcow2', raw, disk])
    rmSync(raw)
  })
  return disk
}

/**
 * A whole Debian that firmware boots. Not every machine can make it.
 * @param {'amd64' | 'i386'} [architecture]
 * @returns {Promise<string>} its path
 */
export async function debianGuest(architecture = 'amd64') {
  const name = architecture === 'amd64' ? 'debian' : 'debian32'
  const recipe = hashFiles([], debianRecipe(architecture)).slice(0, 12)
  const tarball = join(folder, `${name}-${recipe}.tar`)
  const disk = join(folder, `${name}.qcow2`)
  await once(name, '', [disk], async () => {
    const apt = new Apt(folder)
    if (!existsSync(tarball)) await installDebian(tarball, apt, architecture)
    const raw = join(folder, `${name}.img`)
    await debianDisk(raw, tarball, apt)
    await must(bin('qemu-img'), ['convert', '-f', 'raw', '-O', 'qcow2', raw, disk])
    rmSync(raw)
  })
  return disk
}

/**
 * CDs that firmware boots: NAME.iso for each of `cdNames`.
 * @returns {Promise<string>} the folder that they are in
 */
export async function cdGuests() {
  const target = join(folder, 'cd')
  const files = cdNames.map((name) => join(target, `${name}.iso`))
  await once('cd', '', files, async () => {
    mkdirSync(target, { recursive: true })
    await makeCds(target, new Apt(folder))
  })
  return target
}

/**
 * A kernel for 32-bit machines, and an initramfs like `initrdGuest`'s whose busybox is one for them, too.
 * @returns {Promise<{kernel: string, initrd: string}>} paths
 */
export async function i386Guest() {
  const own = join(folder, 'i386')
  const paths = { kernel: join(own, 'vmlinuz'), initrd: join(own, 'initramfs.cpio') }
  await once('i386', '', Object.values(paths), async () => {
    const apt = new Apt(own, 'i386')
    const trouble = apt.missing()
    if (trouble) throw new Failure(`cannot fetch 32-bit packages: ${trouble}`)
    mkdirSync(own, { recursive: true })
    // Lists of some archives may be missing: it is the packages that must be there.
    await apt.update()
    const kernel = await fetchKernel(apt, 'linux-image-686-pae')
    const busybox = await fetchBusybox(apt)
    if (!kernel || !busybox) throw new Failure('no 32-bit packages of Debian can be had')
    copyFileSync(kernel, paths.kernel)
    writeFileSync(paths.initrd, initramfs(busybox))
  })
  return paths
}

/**
 * The initial RAM disk with drivers for IDE disks and CD drives. Needs the packages' own kernel.
 * @returns {Promise<string>} its path
 */
export async function ataGuest() {
  const { kernel } = await kernelGuest()
  const { initrd } = await initrdGuest()
  const path = join(folder, 'initrd-ata.cpio')
  await once('ata', 'BUSYBOX', [path], async () => {
    const archive = moduleArchive(kernelModules(kernel, ataModules, folder))
    writeFileSync(path, Buffer.concat([readFileSync(initrd), archive]))
  })
  return path
}

/**
 * A kernel with drivers for network cards, and the initial RAM disk that has them.
 * @returns {Promise<{kernel: string, initrd: string}>} paths
 */
export async function cardsGuest() {
  const { initrd } = await initrdGuest()
  const own = join(folder, 'cards')
  const paths = { kernel: join(own, 'vmlinuz'), initrd: join(own, 'initrd.cpio') }
  await once('cards', 'BUSYBOX', Object.values(paths), async () => {
    mkdirSync(own, { recursive: true })
    const apt = new Apt(own)
    const trouble = apt.missing()
    if (trouble) throw new Failure(`cannot fetch a kernel: ${trouble}. ${advice}`)
    const fetch = async () => await fetchKernel(apt, 'linux-image-amd64')
    const kernel = (await fetch()) ?? ((await apt.update()) ? await fetch() : undefined)
    if (!kernel) throw new Failure(`no kernel with drivers for network cards can be had. ${advice}`)
    const archive = moduleArchive(kernelModules(kernel, cardModules, own))
    writeFileSync(paths.initrd, Buffer.concat([readFileSync(initrd), archive]))
    copyFileSync(kernel, paths.kernel)
    // Its thousands of modules are half a gigabyte.
    rmSync(join(own, 'packages'), { recursive: true })
  })
  return paths
}

/**
 * The programs of the engine benchmark, and the initial RAM disk that has them.
 * @returns {Promise<{suite: string, initrd: string}>} paths
 */
export async function engineGuest() {
  const { initrd } = await initrdGuest()
  const paths = { suite: join(folder, 'engine-suite'), initrd: join(folder, 'initrd-engine.cpio') }
  const step = async () => {
    await compileSuite(paths.suite)
    writeSuiteInitrd(initrd, paths.suite, paths.initrd)
  }
  await once('engine', 'BUSYBOX', Object.values(paths), step, [engineSources])
  return paths
}

/**
 * The disk with Debian's programs. Not every machine can make it.
 * @returns {Promise<string | undefined>} its path
 */
export async function programsGuest() {
  const { suite } = await engineGuest()
  const tarball = join(folder, `programs-${hashFiles([], debianPackages.join()).slice(0, 12)}.tar`)
  const disk = join(folder, 'programs.img')
  /** @param {string | undefined} own */
  const step = async (own) => {
    const apt = new Apt(folder)
    if (!existsSync(tarball)) {
      log("unpacking Debian's programs")
      const trouble = apt.missing() ?? (await debianTree(tarball, apt))
      if (trouble) throw new Failure(trouble)
    }
    const busybox = own ?? (await fromPackage('busybox', fetchBusybox))
    await programsImage(disk, { tarball, suite, busybox }, apt)
  }
  try {
    await once('programs', 'BUSYBOX', [disk], step, [engineSources, programSources])
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    log(`there is no disk with Debian's programs: ${error.message}`)
    rmSync(disk, { force: true })
    return undefined
  }
  return disk
}

/**
 * Files of a package, from the folder that a variable of the environment names or the one where the package has them.
 * @param {string} name @param {string} variable @param {string} from @param {string} place @param {readonly string[]} files
 */
async function packageFiles(name, variable, from, place, files) {
  const target = join(folder, name)
  const pathOf = (/** @type {string} */ file) => join(target, basename(file))
  await once(name, variable, files.map(pathOf), async (own) => {
    const root = own ?? join(await fromPackage(from, (apt) => apt.fetch(from)), place)
    mkdirSync(target, { recursive: true })
    for (const file of files) copyFileSync(join(root, own ? basename(file) : file), pathOf(file))
  })
  return target
}

/**
 * Runs a step unless its files are there, made by the same code from the same source.
 * @param {string} name
 * @param {string} variable of the environment, which may name a file of the user's
 * @param {readonly string[]} files
 * @param {(own: string | undefined) => Promise<void>} step
 * @param {readonly string[]} [sources] what it reads beside its code
 */
async function once(name, variable, files, step, sources = []) {
  const own = process.env[variable] || undefined
  const kind = own && statSync(own, { throwIfNoEntry: false })
  if (own && !kind) throw new Failure(`${variable}=${own}: there is no such file`)
  const code = ['guests', 'lib/cpio.mjs', 'lib/kernel-modules.mjs', 'lib/lz4.mjs', 'guests.mjs']
  const places = code.map((path) => fileURLToPath(new URL(path, import.meta.url)))
  const makers = filesBelow([...places, ...sources])
  const value = hashFiles(makers, JSON.stringify(own ? [own, kind] : []))
  const stamp = join(folder, `.stamp-${name}`)
  if (stampIs(stamp, value) && files.every((file) => existsSync(file))) return
  mkdirSync(folder, { recursive: true })
  await step(own)
  writeStamp(stamp, value)
  log(`made ${files.join(' and ')}`)
}

/**
 * @param {string} what for the message
 * @param {(apt: Apt) => Promise<string | undefined>} fetch
 */
async function fromPackage(what, fetch) {
  const apt = new Apt(folder)
  const trouble = apt.missing()
  if (trouble)
    throw new Failure(`cannot fetch ${what} from a Debian package: ${trouble}. ${advice}`)
  // The system's own lists first; if they are missing or name files that are gone, fresh ones.
  const found = (await fetch(apt)) ?? ((await apt.update()) ? await fetch(apt) : undefined)
  if (found === undefined) throw new Failure(`no Debian package with ${what} can be had. ${advice}`)
  return found
}

/** @param {Apt} apt @param {string} [latest] the package that depends on the latest one */
async function fetchKernel(apt, latest = 'linux-image-cloud-amd64') {
  const image = apt.dependency(latest, 'linux-image-')
  const unpacked = image && (await apt.fetch(image))
  if (!unpacked) return undefined
  const boot = join(unpacked, 'boot')
  const name = readdirSync(boot).find((entry) => entry.startsWith('vmlinuz-'))
  return name && join(boot, name)
}

/** @param {Apt} apt */
async function fetchBusybox(apt) {
  const unpacked = await apt.fetch('busybox-static')
  return unpacked && join(unpacked, 'bin/busybox')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    await firmwareGuest()
    await ipxeGuest()
    await ovmfGuest()
    await bootGuest()
    if (process.argv.includes('--debian')) await debianGuest()
    if (process.argv.includes('--cd')) await cdGuests()
    if (process.argv.includes('--i386')) {
      await i386Guest()
      await debianGuest('i386')
    }
    await ataGuest()
    await cardsGuest()
  })
}
