// CDs: those that packages have, and Debian's installer from its package for booting over a network.
import { Buffer } from 'node:buffer'
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Failure } from '../lib/run.mjs'
import { efiSystem } from './efi.mjs'
import { grubImage } from './grub.mjs'
import { bootableCd } from './iso.mjs'

/** In these packages, CDs at these paths. */
const shipped = {
  rescue: ['grub-rescue-pc', 'usr/lib/grub-rescue/grub-rescue-cdrom.iso'],
  memtest: ['memtest86+', 'usr/lib/memtest86+/memtest86+x64.iso'],
  memtest32: ['memtest86+', 'usr/lib/memtest86+/memtest86+ia32.iso'],
}
const installerPackage = 'debian-installer-12-netboot-amd64'
const installerFolder = 'usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64'
/** What GRUB needs to find the CD, however firmware numbers it, and to start a kernel. */
const modules = [
  'iso9660',
  'search',
  'search_fs_file',
  'linux',
  'normal',
  'configfile',
  'echo',
  'test',
]
/** The menu that each kind of firmware's GRUB goes on with. @param {string} name */
const goOn = (name) => `search --set=root --file /initrd.gz\nconfigfile ($root)/${name}\n`
/** @param {string} console where dialogs are shown */
const menu = (console) => `echo 'GRUB loads the installer'
linux /linux console=${console} nomodeset --- quiet
initrd /initrd.gz
boot
`
/** Through a BIOS dialogs are on the screen, which stays in text mode, and through UEFI on the serial port. */
const menus = [
  { name: 'bios.cfg', data: Buffer.from(menu('tty0')) },
  { name: 'efi.cfg', data: Buffer.from(menu('ttyS0')) },
]

/** The names of what `makeCds` makes. */
export const cdNames = [...Object.keys(shipped), 'installer']

/**
 * Writes the images NAME.iso.
 * @param {string} folder @param {import('./apt.mjs').Apt} apt
 */
export async function makeCds(folder, apt) {
  for (const [name, [from = '', path = '']] of Object.entries(shipped)) {
    const unpacked = await apt.fetch(from)
    if (unpacked === undefined) throw new Failure(`the package ${from} cannot be fetched`)
    copyFileSync(join(unpacked, path), join(folder, `${name}.iso`))
  }
  writeFileSync(join(folder, 'installer.iso'), await installerCd(folder, apt))
}

/** @param {string} folder @param {import('./apt.mjs').Apt} apt */
async function installerCd(folder, apt) {
  const installer = await apt.fetch(installerPackage)
  const images = await apt.fetch('grub-pc-bin')
  if (installer === undefined || images === undefined) {
    throw new Failure(`the package ${installerPackage} cannot be fetched`)
  }
  const temporary = join(folder, 'installer.part')
  const bios = await grubImage(
    temporary,
    {
      format: 'i386-pc-eltorito',
      folder: join(images, 'usr/lib/grub/i386-pc'),
      modules: ['biosdisk', ...modules],
      config: goOn('bios.cfg'),
    },
    apt,
  )
  const efi = await efiSystem(temporary, apt, {
    modules: ['fat', ...modules],
    config: goOn('efi.cfg'),
  })
  const files = ['linux', 'initrd.gz'].map((name) => ({
    name,
    data: readFileSync(join(installer, installerFolder, name)),
  }))
  // A copy of all that is unpacked would be kept for nothing.
  rmSync(installer, { recursive: true })
  return bootableCd('INSTALLER', [...menus, ...files], { bios, efi })
}
