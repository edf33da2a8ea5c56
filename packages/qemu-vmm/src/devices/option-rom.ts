import { basename } from 'node:path'

import type { FwCfgFile } from '../chipset/fw-cfg.ts'
import { PCI_CLASS_DEVICE, PCI_DEVICE_ID, PCI_VENDOR_ID } from '../chipset/pci/config-space.ts'
import type { PciFunction } from '../chipset/pci/function.ts'
import { patchRomIds, readRom } from '../chipset/pci/rom.ts'
import { findFirmware } from '../firmware/find.ts'
import type { FirmwareFile } from '../firmware/find.ts'
import { VmmError } from '../errors.ts'
import type { DeviceOption, PropertySpec } from './device-type.ts'
import type { PlugContext } from './plug-context.ts'
import type { PlugLife } from './plug-place.ts'
import { propertyReader } from './properties.ts'

/** The VGA, and what is compatible with it. */
const CLASS_VGA = 0x0300
/** Values of `rombar` that are numbers, as in QEMU 7.2, or words, as in later ones. */
const ROM_BAR: Readonly<Record<string, boolean>> = { auto: true, 1: true, 0: false }

/** Properties of the expansion ROM that any PCI device may have. */
export function romProperties(rom?: FirmwareFile): readonly PropertySpec[] {
  return [
    {
      name: 'romfile',
      type: 'str',
      help: 'File of an option ROM that firmware runs; empty for none',
      ...(rom === undefined ? {} : { default: rom.name }),
    },
    {
      name: 'rombar',
      type: 'uint32',
      help: 'Whether the ROM is in a BAR (1) or handed to the BIOS as a file (0)',
      default: '1',
    },
  ]
}

/** What an option ROM needs of the machine. */
export type RomContext = Pick<
  PlugContext,
  'firmwareFolders' | 'runsFirmware' | 'optionRoms' | 'log'
> &
  Pick<PlugLife, 'isHotplugged'>

/** The image of a ROM. */
export interface OptionRom {
  image: Uint8Array
  /** Where it is from. */
  path: string
  /** In a base address register; else a file for the BIOS. */
  inBar: boolean
}

/**
 * What `romfile=` names, or the device's own ROM, which some package has put somewhere. Undefined for
 * none. A ROM of the device's own that is not there is no error: only booting from the device needs it,
 * and firmware, if any runs, is said to lack it.
 *
 * @throws VmmError `E_FILE` and `E_FIRMWARE_SIZE` for a file that can be no ROM
 */
export function loadOptionRom(
  context: RomContext,
  option: DeviceOption,
  own?: FirmwareFile,
): OptionRom | undefined {
  const read = propertyReader(option)
  const bar = read.text('rombar')
  const inBar = (bar === undefined ? undefined : ROM_BAR[bar]) ?? read.bool('rombar', true)
  const file = read.text('romfile')
  if (file === '') return undefined
  if (file !== undefined) {
    const path = findRom(file, context.firmwareFolders)
    return { image: readRom(path), path, inBar }
  }
  if (own === undefined) return undefined
  try {
    const path = findFirmware(own, context.firmwareFolders)
    return { image: readRom(path), path, inBar }
  } catch (error) {
    if (!(error instanceof VmmError) || error.code !== 'E_NO_FIRMWARE') throw error
    if (context.runsFirmware) context.log(error.message)
    return undefined
  }
}

/** Gives a function its ROM; `own` is the one that its kind of device has if no other is named. */
export function addOptionRom(
  context: RomContext,
  fn: PciFunction,
  option: DeviceOption,
  own?: FirmwareFile,
): void {
  const rom = loadOptionRom(context, option, own)
  if (rom === undefined) return
  const { image, path, inBar } = rom
  if (!inBar) {
    const isVga = fn.config.get16(PCI_CLASS_DEVICE) === CLASS_VGA
    handToFirmware(context, option, {
      name: `${isVga ? 'vgaroms' : 'genroms'}/${basename(path)}`,
      data: image,
    })
    return
  }
  // One image serves all ids of a kind of card: firmware runs it only where they are its own.
  const isOwn = option.properties['romfile'] === undefined
  if (isOwn) patchRomIds(image, fn.config.get16(PCI_VENDOR_ID), fn.config.get16(PCI_DEVICE_ID))
  fn.addRom(image)
}

/** The BIOS runs the files of these folders, too. */
function handToFirmware(context: RomContext, option: DeviceOption, file: FwCfgFile): void {
  const device = option.id ?? option.driver
  if (context.isHotplugged) {
    throw new VmmError(
      'E_DEVICE_OPTION',
      `${device}: Hot-plugged device without ROM bar can't have an option ROM; leave out rombar=0, or ` +
        "add 'romfile='",
      { fields: { device } },
    )
  }
  const other = context.optionRoms.find(({ name }) => name === file.name)
  if (other === undefined) context.optionRoms.push(file)
  else if (!Buffer.from(other.data).equals(file.data)) {
    throw new VmmError(
      'E_DEVICE_OPTION',
      `${device}: another device has handed the BIOS a ROM that is called ${file.name}, too; rename one`,
      { fields: { device, file: file.name } },
    )
  }
}

/** A path, or a name in the folders where the devices' own ROMs are. */
function findRom(file: string, folders: readonly string[]): string {
  try {
    return findFirmware({ name: file, what: 'option ROM', package: 'ipxe-qemu' }, folders)
  } catch {
    return file
  }
}
