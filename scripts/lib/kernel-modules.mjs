// Modules of Debian's kernels for the initial RAM disks of guests.
import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { Failure } from './run.mjs'

/** Modules of the kernel's package for what is on PCI, in the order of their dependencies. */
export const diskModules = [
  'virtio/virtio_ring',
  'virtio/virtio',
  'virtio/virtio_pci_modern_dev',
  'virtio/virtio_pci_legacy_dev',
  'virtio/virtio_pci',
  'block/virtio_blk',
  'char/virtio_console',
  'char/hw_random/virtio-rng',
  '../net/core/failover',
  'net/net_failover',
  'net/virtio_net',
]

/** The same for disks and CD drives at an IDE controller. */
export const ataModules = [
  'scsi/scsi_common',
  'scsi/scsi_mod',
  'cdrom/cdrom',
  'ata/libata',
  'ata/ata_piix',
  'scsi/sd_mod',
  'scsi/sr_mod',
]

/** The same for network cards, of Debian's kernel for all machines: the one for clouds has none of them. */
export const cardModules = [
  'net/ethernet/intel/e1000/e1000',
  'net/ethernet/intel/e1000e/e1000e',
  'net/mii',
  'net/ethernet/realtek/8139cp',
  'net/ethernet/realtek/8139too',
]

/**
 * Paths of modules of the kernel's package.
 * @param {string} kernel @param {readonly string[]} names below kernel/drivers @param {string} place of the packages
 */
export function kernelModules(kernel, names, place) {
  const packages = readdirSync(join(place, 'packages'))
  const image = packages.find((name) => name.startsWith('linux-image-'))
  const version = release(readFileSync(kernel))
  const tree = join(place, 'packages', image ?? '', 'root/lib/modules', version ?? '')
  const files = names.map((name) => join(tree, 'kernel/drivers', `${name}.ko`))
  const lacking = files.find((file) => !existsSync(file))
  if (lacking)
    throw new Failure(`the kernel has no module ${lacking}: a disk needs Debian's kernel`)
  return files
}

/** @param {Buffer} image the bzImage; its header points to the version string */
export function release(image) {
  const at = image.readUInt16LE(0x20e) + 0x200
  return image.toString('latin1', at, image.indexOf(0, at)).split(' ')[0]
}
