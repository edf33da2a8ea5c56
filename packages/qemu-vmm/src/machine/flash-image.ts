import { existsSync } from 'node:fs'

import { VmmError, formatBytes } from '../errors.ts'
import { findFirmware } from '../firmware/find.ts'
import { FLASH_SECTOR_BYTES } from '../chipset/pflash/cfi01.ts'
import type { MachineConfig } from './config.ts'
import type { DriveConfig } from './drive-config.ts'
import type { Drives } from './drives.ts'
import type { Drive } from './drive.ts'

/** Flash chips: the firmware, and its variables. */
export const FLASH_CHIPS = 2
/** Together they have at most as much, as on QEMU's machines. */
const MOST = 8 << 20

/** The contents of a flash chip, and where they are kept. */
export interface FlashImage {
  /** `system.flash0` or `system.flash1`. */
  readonly name: string
  readonly bytes: Uint8Array
  readonly drive: Drive
}

/**
 * The drives of a configuration, with the files of flash chips found where distributions put firmware.
 *
 * @throws VmmError `E_NO_FIRMWARE` with the package that has such files
 */
export function findFlashFiles(config: MachineConfig): readonly DriveConfig[] {
  const { drives = [], flash = [], firmwareFolders = [] } = config
  return drives.map((drive) => {
    if (!flash.includes(drive.id) || drive.file === undefined || existsSync(drive.file))
      return drive
    const wanted = { name: drive.file, what: 'flash image', package: 'ovmf' }
    return { ...drive, file: findFirmware(wanted, firmwareFolders) }
  })
}

/**
 * Reads the flash chips of a machine, the firmware's first.
 *
 * @throws VmmError `E_FIRMWARE_SIZE` for a size that no chip has
 */
export async function readFlash(
  config: MachineConfig,
  drives: Drives,
): Promise<readonly FlashImage[]> {
  const images: FlashImage[] = []
  let total = 0
  for (const [unit, id] of (config.flash ?? []).entries()) {
    if (id === undefined) continue
    const name = `system.flash${unit}`
    const drive = drives.take(id, name)
    const { sizeBytes } = drive
    total += sizeBytes
    if (sizeBytes === 0 || sizeBytes % FLASH_SECTOR_BYTES !== 0 || total > MOST) {
      throw new VmmError(
        'E_FIRMWARE_SIZE',
        `${name}: '${id}' has ${sizeBytes} bytes; a flash chip is a multiple of ` +
          `${formatBytes(FLASH_SECTOR_BYTES)}, and all together have at most ${formatBytes(MOST)}`,
        { fields: { device: name, size: sizeBytes, unit: FLASH_SECTOR_BYTES, limit: MOST } },
      )
    }
    const bytes = new Uint8Array(sizeBytes)
    await drive.readv(0, [bytes])
    images.push({ name, bytes, drive })
  }
  return images
}
