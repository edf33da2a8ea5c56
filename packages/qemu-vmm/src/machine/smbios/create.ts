import { VmmError } from '../../errors.ts'
import { Table } from '../acpi/tables.ts'
import type { SmbiosConfig } from './config.ts'
import { describe } from './describe.ts'
import { blobsOf } from './options.ts'

/** The entry point and the table behind it. */
export interface Smbios {
  entryPoint: Uint8Array
  table: Uint8Array
}

/** The entry point has 16 bits for the length of the table. */
const MOST_TABLE_BYTES = 0xffff

/**
 * SMBIOS 2.8 (DSP0134): the 31-byte entry point and the structure table it points to.
 * @param tableGpa where the caller will put the structure table.
 * @param options `describesFirmware`: with structure 0, which real firmware makes for itself
 * @throws VmmError `E_CONFIG` when the structures are too long
 */
export function createSmbios(
  config: SmbiosConfig,
  tableGpa: number,
  { describesFirmware = true }: { describesFirmware?: boolean } = {},
): Smbios {
  const given = blobsOf(config.smbios ?? [])
  const replaced = new Set(given.map((bytes) => bytes[0]))
  const structures = [
    ...given,
    ...describe(config, describesFirmware)
      .filter(({ bytes }) => !replaced.has(bytes[0]))
      .map((structure) => structure.encoded()),
  ]
  const table = Uint8Array.from(Buffer.concat(structures))
  if (table.length > MOST_TABLE_BYTES) {
    throw new VmmError(
      'E_CONFIG',
      `the SMBIOS structures are ${table.length} bytes, and can be ${MOST_TABLE_BYTES}; give fewer`,
    )
  }
  const entryPoint = new Table(31)
    .text(0, '_SM_')
    .u8(5, 31)
    .u8(6, 2)
    .u8(7, 8)
    .u16(8, Math.max(...structures.map((bytes) => bytes.length)))
    .text(16, '_DMI_')
    .u16(22, table.length)
    .u32(24, tableGpa)
    .u16(28, structures.length)
    .u8(30, 0x28)
    .checksum(21, 16, 31)
    .checksum(4)
  return { entryPoint: entryPoint.bytes, table }
}
