import { LOW_BIOS_BYTES, readBios } from '../firmware/bios-image.ts'
import type { BiosImage } from '../firmware/bios-image.ts'
import type { MachineConfig } from './config.ts'
import type { FlashImage } from './flash-image.ts'

/** What is seen of the firmware below 1 MiB: the end of the first flash chip, or a ROM. */
export function biosOf(
  config: MachineConfig,
  [first]: readonly FlashImage[],
): Pick<BiosImage, 'bytes'> | undefined {
  if (first === undefined) return readBios(config.bios, config.firmwareFolders ?? [])
  return { bytes: first.bytes.slice(-LOW_BIOS_BYTES) }
}
