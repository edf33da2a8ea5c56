import { VmmError } from '../../errors.ts'
import { HEADER_BYTES } from './tables.ts'
import type { TableOem } from './tables.ts'

/** QEMU's bound for a table that a user gives. */
export const MOST_TABLE_BYTES = 0xffff

/** Throws `E_CONFIG` for what guests would not take as a table. */
export function checkAcpiTables(tables: readonly Uint8Array[]): void {
  for (const [i, table] of tables.entries()) {
    const { length } = table
    if (length < HEADER_BYTES || length > MOST_TABLE_BYTES) {
      throw bad(`has ${length} bytes; it can have ${HEADER_BYTES} to ${MOST_TABLE_BYTES}`, i)
    }
    const said = new DataView(table.buffer, table.byteOffset).getUint32(4, true)
    if (said !== length) throw bad(`has ${length} bytes, and its header says ${said}`, i)
    const sum = table.reduce((total, byte) => (total + byte) & 0xff, 0)
    if (sum !== 0) throw bad(`has a wrong checksum: its bytes add up to ${sum} instead of 0`, i)
  }
}

/**
 * The maker that other tables have to name for the licence in a table of the user's to hold; undefined where there is no such
 * table. Windows compares both.
 */
export function licenceOem(tables: readonly Uint8Array[]): TableOem | undefined {
  const table = tables.findLast((one) => ascii(one, 0, 4) === 'SLIC')
  return table === undefined
    ? undefined
    : { id: ascii(table, 10, 16), tableId: ascii(table, 16, 24) }
}

const ascii = (table: Uint8Array, start: number, end: number): string =>
  Buffer.from(table.subarray(start, end)).toString('latin1')

function bad(problem: string, index: number): VmmError {
  return new VmmError('E_CONFIG', `ACPI table ${index} ${problem}`)
}
