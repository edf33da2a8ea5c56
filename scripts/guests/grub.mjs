// A disk that firmware boots: a partition table, GRUB without its installer, and a file system. Neither root nor a loop device.
import {
  closeSync,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { Failure, run } from '../lib/run.mjs'
import { fileSystem } from './disk.mjs'

const sector = 512
/** Where the partition begins: what boots is in front of it. */
const partitionSector = 2048
const mib = 1 << 20
const perMib = mib / sector
const linuxPartition = 0x83
const efiPartition = 0xef
const active = 0x80
/** Offsets in the boot sector: the drive's number is checked there, and partitions follow. */
const driveCheckAt = 0x66
const tableAt = 0x1be
const entryBytes = 16
const nop = 0x90
/** What GRUB needs to read a kernel from the first partition. */
const modules = [
  'biosdisk',
  'part_msdos',
  'ext2',
  'linux',
  'normal',
  'configfile',
  'serial',
  'terminal',
  'echo',
  'test',
]
const early =
  'set root=(hd0,msdos1)\nset prefix=(hd0,msdos1)/boot/grub\nconfigfile /boot/grub/grub.cfg\n'
const libraries = ['liblzma5', 'libdevmapper1.02.1', 'libselinux1', 'libudev1', 'libpcre2-8-0']

/**
 * The menu, without a choice. GRUB writes to the BIOS's screen, which without graphics is the serial port.
 * @param {string} commandLine @param {{kernel: string, initrd: string}} files
 */
export function grubMenu(commandLine, { kernel, initrd }) {
  return `echo 'GRUB loads Linux'
linux ${kernel} ${commandLine}
initrd ${initrd}
boot
`
}

/**
 * Writes a raw image that boots from the tree: it must have /boot/grub/grub.cfg and what that names.
 * @param {string} image @param {string} tree @param {number} sizeMib of the file system
 * @param {import('./apt.mjs').Apt} apt
 * @param {Buffer} [efi] a file system for UEFI firmware, which becomes the second partition
 */
export async function bootableDisk(image, tree, sizeMib, apt, efi = Buffer.alloc(0)) {
  rmSync(image, { force: true })
  await fileSystem(tree, image, sizeMib, apt, partitionSector * sector)
  const { boot, core } = await grub(`${image}.core`, apt)
  if (core.length > (partitionSector - 1) * sector) {
    throw new Failure(`GRUB has ${core.length} bytes, too many in front of the partition`)
  }
  const file = openSync(image, 'r+')
  const end = partitionSector * sector + sizeMib * mib
  ftruncateSync(file, end)
  const partitions = [{ kind: linuxPartition, start: partitionSector, count: sizeMib * perMib }]
  if (efi.length > 0) {
    partitions.push({ kind: efiPartition, start: end / sector, count: efi.length / sector })
  }
  writeSync(file, bootSector(boot, partitions), 0, sector, 0)
  writeSync(file, core, 0, core.length, sector)
  writeSync(file, efi, 0, efi.length, end)
  closeSync(file)
}

/**
 * GRUB's boot sector with a table of partitions, the first of them active. As its installer does, a check of the drive's
 * number is left out, which is for floppy disks.
 * @param {Buffer} boot @param {readonly {kind: number, start: number, count: number}[]} partitions in sectors
 */
function bootSector(boot, partitions) {
  const bytes = Buffer.from(boot)
  bytes.fill(nop, driveCheckAt, driveCheckAt + 2)
  bytes.fill(0, tableAt, sector - 2)
  for (const [i, { kind, start, count }] of partitions.entries()) {
    const at = tableAt + i * entryBytes
    bytes[at] = i === 0 ? active : 0
    // Addresses by cylinder are said to be beyond what they can say: everybody uses the sectors.
    bytes.set([0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff], at + 1)
    bytes.writeUInt32LE(start, at + 8)
    bytes.writeUInt32LE(count, at + 12)
  }
  return bytes
}

/** @param {string} output @param {import('./apt.mjs').Apt} apt */
async function grub(output, apt) {
  const images = await apt.fetch('grub-pc-bin')
  if (images === undefined) throw new Failure('GRUB cannot be fetched')
  const folder = join(images, 'usr/lib/grub/i386-pc')
  const core = await grubImage(output, { format: 'i386-pc', folder, modules, config: early }, apt)
  return { boot: readFileSync(join(folder, 'boot.img')), core }
}

/**
 * GRUB as one file, which runs its configuration first.
 * @param {string} output a path to use meanwhile
 * @param {{format: string, folder: string, modules: readonly string[], config: string}} what
 * @param {import('./apt.mjs').Apt} apt
 */
export async function grubImage(output, { format, folder, modules: parts, config }, apt) {
  const tools = await apt.fetch('grub-common')
  if (tools === undefined) throw new Failure('grub-mkimage cannot be fetched')
  const script = `${output}.cfg`
  writeFileSync(script, config)
  const args = ['-O', format, '-d', folder, '-p', '/boot/grub', '-c', script, '-o', output]
  const program = join(tools, 'usr/bin/grub-mkimage')
  if ((await run(program, [...args, ...parts])) !== 0) {
    const env = { LD_LIBRARY_PATH: await libraryPath(apt) }
    if ((await run(program, [...args, ...parts], { env })) !== 0) {
      throw new Failure('grub-mkimage could not make its image')
    }
  }
  const image = readFileSync(output)
  rmSync(output)
  rmSync(script)
  return image
}

/** What the program needs, where it is not installed. @param {import('./apt.mjs').Apt} apt */
async function libraryPath(apt) {
  const roots = await Promise.all(libraries.map((name) => apt.fetch(name)))
  return roots
    .filter((root) => root !== undefined)
    .flatMap((root) => ['lib', 'usr/lib'].map((path) => join(root, path, 'x86_64-linux-gnu')))
    .join(':')
}
