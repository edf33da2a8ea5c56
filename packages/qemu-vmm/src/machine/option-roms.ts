import { basename } from 'node:path'

import type { FwCfgFile } from '../chipset/fw-cfg.ts'
import { readRom } from '../chipset/pci/rom.ts'
import { VmmError } from '../errors.ts'
import { findFirmware } from '../firmware/find.ts'
import type { BootIndex } from './boot-index.ts'
import type { MachineConfig } from './config.ts'
import { startsKernelByFirmware } from './runs-firmware.ts'

const FOLDER = 'genroms'
/** Takes a kernel out of the firmware configuration device, for a BIOS, which starts nothing but disks by itself. */
const KERNEL_ROM = {
  name: 'linuxboot_dma.bin',
  what: 'option ROM that starts kernels',
  package: 'qemu-system-data',
  option: '-option-rom',
}

/**
 * The option ROMs that belong to no device, and their places in the boot order.
 *
 * @throws VmmError `E_NO_FIRMWARE` for one that is not there, `E_FILE` and `E_FIRMWARE_SIZE` for a file that can be none
 */
export function machineRoms(config: MachineConfig, order: BootIndex): FwCfgFile[] {
  const { optionRoms = [], firmwareFolders = [] } = config
  const roms: FwCfgFile[] = []
  const add = (path: string): string => {
    const name = `${FOLDER}/${basename(path)}`
    roms.push({ name, data: readRom(path) })
    return `/rom@${name}`
  }
  for (const { file, bootIndex } of optionRoms) {
    const rom = { ...KERNEL_ROM, name: file, what: 'option ROM', package: 'ipxe-qemu' }
    const path = add(findFirmware(rom, firmwareFolders))
    if (bootIndex !== undefined) order.add(bootIndex, path)
  }
  if (startsKernelByFirmware(config)) {
    const found = kernelRom(config)
    if (found !== undefined) order.addFirst(add(found))
  }
  return roms
}

/** UEFI firmware, which comes in flash, starts kernels without a ROM. */
function kernelRom({ bios, firmwareFolders }: MachineConfig): string | undefined {
  try {
    return findFirmware(KERNEL_ROM, firmwareFolders ?? [])
  } catch (error) {
    if (bios === undefined && error instanceof VmmError && error.code === 'E_NO_FIRMWARE') {
      return undefined
    }
    throw error
  }
}
