// The file system that UEFI firmware boots from: a FAT with GRUB at the place of removable media, made by mtools without root.
import { closeSync, ftruncateSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Failure, capture, must } from '../lib/run.mjs'
import { grubImage } from './grub.mjs'

const sizeMib = 16
/** What GRUB needs to start a kernel, beside what it finds that with. */
const loading = ['linux', 'normal', 'configfile', 'serial', 'terminal', 'echo', 'test']
/** On a disk: firmware numbers disks as it finds them, and the label is what tells. */
const onDisk = {
  modules: ['part_msdos', 'fat', 'ext2', 'search', 'search_label', ...loading],
  config: 'search --set=root --label root\nconfigfile ($root)/boot/grub/grub.cfg\n',
}

/**
 * The bytes of the file system. GRUB goes on with the menu of the disk's file system labelled "root", or as `what` says.
 * @param {string} path of a file to use meanwhile @param {import('./apt.mjs').Apt} apt
 * @param {{modules: readonly string[], config: string}} [what]
 */
export async function efiSystem(path, apt, what = onDisk) {
  const images = await apt.fetch('grub-efi-amd64-bin')
  if (images === undefined) throw new Failure('GRUB for UEFI cannot be fetched')
  const folder = join(images, 'usr/lib/grub/x86_64-efi')
  const program = `${path}.efi`
  writeFileSync(
    program,
    await grubImage(`${path}.core`, { format: 'x86_64-efi', folder, ...what }, apt),
  )
  const file = openSync(path, 'w')
  ftruncateSync(file, sizeMib << 20)
  closeSync(file)
  const mtools = await mtoolsProgram(apt)
  await must(mtools, ['-c', 'mformat', '-i', path, '-v', 'EFI', '-N', '00000001', '::'])
  await must(mtools, ['-c', 'mmd', '-i', path, '::/EFI', '::/EFI/BOOT'])
  await must(mtools, ['-c', 'mcopy', '-i', path, program, '::/EFI/BOOT/BOOTX64.EFI'])
  const bytes = readFileSync(path)
  rmSync(path)
  rmSync(program)
  return bytes
}

/** @param {import('./apt.mjs').Apt} apt */
async function mtoolsProgram(apt) {
  if (capture('mtools', ['--version']) !== undefined) return 'mtools'
  const unpacked = await apt.fetch('mtools')
  if (unpacked === undefined) throw new Failure('mtools cannot be had: install the package')
  return join(unpacked, 'usr/bin/mtools')
}
