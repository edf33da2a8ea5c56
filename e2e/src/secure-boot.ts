// A machine with Debian's firmware for Secure Boot, and a disk from which it starts Linux.
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fatDisk } from './fat.ts'
import { guestFiles } from './guest.ts'

/** The code of that firmware, by the name that it is searched for. */
export const secureCode = 'OVMF_CODE_4M.secboot.fd'

/** Puts the disk, and a copy of a variable store of the package, into a folder. */
export function secureFiles(
  folder: string,
  store: string,
  initrd: string = guestFiles.initrd,
): { vars: string; image: string } {
  const vars = join(folder, 'vars.fd')
  copyFileSync(join(guestFiles.ovmf, store), vars)
  const image = join(folder, 'disk')
  const files = [
    { name: 'vmlinuz', data: readFileSync(guestFiles.kernel) },
    { name: 'initrd', data: readFileSync(initrd) },
    {
      name: 'startup.nsh',
      data: Buffer.from('fs0:\r\nvmlinuz initrd=\\initrd console=ttyS0\r\n'),
    },
  ]
  writeFileSync(image, fatDisk(files))
  return { vars, image }
}

/** Options for a machine with these files. */
export function secureMachine(
  { vars, image }: { vars: string; image: string },
  ...more: string[]
): string[] {
  const flash = 'if=pflash,format=raw'
  const drives = [
    ['-drive', `${flash},unit=0,readonly=on,file=${secureCode}`],
    ['-drive', `${flash},unit=1,file=${vars}`],
    ['-drive', `file=${image},if=ide,format=raw`],
    ['-global', 'driver=cfi.pflash01,property=secure,value=on'],
  ]
  const folders = ['-L', guestFiles.ovmf, '-L', guestFiles.firmware]
  const board = ['-M', 'q35,smm=on', '-accel', 'tcg', '-m', '512', '-nographic', '-nic', 'none']
  return [...board, ...folders, ...drives.flat(), ...more]
}
