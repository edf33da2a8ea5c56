import { existsSync, statSync } from 'node:fs'
import { basename, isAbsolute, join } from 'node:path'

import { VmmError } from '../errors.ts'

/** A firmware file of some package. */
export interface FirmwareFile {
  name: string
  /** What it is, for messages. */
  what: string
  /** The Debian package that has it. */
  package: string
  /** What names another file; default `-bios`. */
  option?: string
}

/** Names of UEFI firmware, by which a file that is not there tells its package. */
const UEFI_NAME = /ovmf|edk2/i

/** The BIOS of the PC machines. */
export const PC_BIOS: FirmwareFile = {
  name: 'bios-256k.bin',
  what: 'PC BIOS',
  package: 'seabios',
}

/** Where distributions and QEMU's own installation put firmware, in the order of search. */
export const FIRMWARE_FOLDERS: readonly string[] = [
  '/usr/share/qemu',
  '/usr/share/seabios',
  '/usr/share/qemu-firmware',
  '/usr/share/OVMF',
  '/usr/share/ovmf',
  '/usr/lib/ipxe/qemu',
  '/usr/share/ipxe/qemu',
  '/usr/local/share/qemu',
  '/opt/homebrew/share/qemu',
]

/**
 * The path of a firmware file: itself if it names a file, else by its name in the folders that the
 * user gave (`-L`), then in those of distributions.
 *
 * @throws VmmError `E_NO_FIRMWARE` with the folders and the package
 */
export function findFirmware(
  { name, what, package: usual, option = '-bios' }: FirmwareFile,
  folders: readonly string[] = [],
  standard: readonly string[] = FIRMWARE_FOLDERS,
): string {
  if (isFile(name)) return name
  const source = UEFI_NAME.test(basename(name)) ? 'ovmf' : usual
  const searched = isAbsolute(name) ? [] : [...folders, ...standard]
  const found = searched.map((folder) => join(folder, name)).find(isFile)
  if (found !== undefined) return found
  const where = searched.length === 0 ? '' : `; it is in none of ${searched.join(', ')}`
  throw new VmmError(
    'E_NO_FIRMWARE',
    `could not load ${what} '${name}'${where}. Install the package ${source} ` +
      `(apt-get install ${source}), name its folder with -L, or a file with ${option}`,
    { fields: { file: name, package: source } },
  )
}

function isFile(path: string): boolean {
  return existsSync(path) && statSync(path).isFile()
}
