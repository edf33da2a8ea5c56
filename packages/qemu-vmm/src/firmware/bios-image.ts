import { readFileSync } from 'node:fs'

import { VmmError, formatBytes } from '../errors.ts'
import { PC_BIOS, findFirmware } from './find.ts'

const UNIT = 64 * 1024
/** Below this much of the end of the 4 GiB are the interrupt controllers. */
const MOST = 16 << 20

/** As much of the end of the BIOS is seen below 1 MiB. */
export const LOW_BIOS_BYTES: number = 128 * 1024

/** A system BIOS: it ends at 4 GiB, and its last 128 KiB are below 1 MiB too. */
export interface BiosImage {
  path: string
  bytes: Uint8Array
}

/**
 * Reads the BIOS: the file that `-bios` names, or the machine's own.
 *
 * @throws VmmError `E_NO_FIRMWARE` when there is none, `E_FIRMWARE_SIZE` for a file that is not a
 *   multiple of 64 KiB
 */
export function readBios(name: string | undefined, folders: readonly string[]): BiosImage {
  const path = findFirmware({ ...PC_BIOS, name: name ?? PC_BIOS.name }, folders)
  const bytes = read(path)
  if (bytes.length === 0 || bytes.length % UNIT !== 0 || bytes.length > MOST) {
    throw new VmmError(
      'E_FIRMWARE_SIZE',
      `could not load PC BIOS '${path}': it has ${bytes.length} bytes; a BIOS is a multiple of ` +
        `${formatBytes(UNIT)}, at most ${formatBytes(MOST)}`,
      { fields: { path, size: bytes.length, unit: UNIT, limit: MOST } },
    )
  }
  return { path, bytes }
}

function read(path: string): Uint8Array {
  try {
    return readFileSync(path)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new VmmError('E_FILE', `could not load PC BIOS '${path}': ${reason}`, {
      fields: { path },
      cause: error,
    })
  }
}
