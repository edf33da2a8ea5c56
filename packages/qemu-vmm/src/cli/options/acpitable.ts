import { readFileSync } from 'node:fs'

import { HEADER_BYTES, Table } from '../../machine/acpi/tables.ts'
import { MOST_TABLE_BYTES } from '../../machine/acpi/user-tables.ts'
import { CliError } from '../cli-error.ts'
import { keyvalOption } from '../option.ts'
import type { OptionSpec } from '../option.ts'
import { systemMessage } from '../system-error.ts'

interface HeaderField {
  readonly key: string
  readonly at: number
  /** Bytes of text, or of a number. */
  readonly bytes: number
  readonly isText: boolean
  /** In a table that comes without a header. */
  readonly preset: string
  readonly help: string
}

const text = (
  key: string,
  at: number,
  bytes: number,
  preset: string,
  help: string,
): HeaderField => ({
  key,
  at,
  bytes,
  preset,
  help,
  isText: true,
})
const number = (key: string, at: number, bytes: number, help: string): HeaderField => ({
  key,
  at,
  bytes,
  help,
  preset: '1',
  isText: false,
})

/** Fields of the header (ACPI 6.5, table 5.4) with QEMU's names. */
const FIELDS: readonly HeaderField[] = [
  text('sig', 0, 4, 'QEMU', 'signature'),
  number('rev', 8, 1, 'revision'),
  text('oem_id', 10, 6, 'QEMUQE', 'maker'),
  text('oem_table_id', 16, 8, 'QEMUQEMU', "the maker's name of the table"),
  number('oem_rev', 24, 4, "the maker's revision"),
  text('asl_compiler_id', 28, 4, 'QEMU', 'maker of the compiler'),
  number('asl_compiler_rev', 32, 4, 'revision of the compiler'),
]

/** `-acpitable`. */
export const acpitable: OptionSpec = keyvalOption({
  name: 'acpitable',
  argument: '[sig=str][,rev=n][,key=value...],data|file=file1[:file2...]',
  repeatable: true,
  help: ['an ACPI table for the guest, in the files one behind the other'],
  keys: [
    ...FIELDS.map(({ key, bytes, isText, help }) => ({
      name: key,
      value: isText ? 'str' : 'n',
      help: isText ? `${help}, at most ${bytes} characters` : help,
    })),
    { name: 'file', value: 'files', help: 'the table with its header' },
    { name: 'data', value: 'files', help: 'what comes behind the header' },
  ],
  take(settings, values) {
    const [file, data] = [values.get('file'), values.get('data')]
    if ((file === undefined) === (data === undefined)) {
      throw new CliError("'-acpitable' requires one of 'data' or 'file'")
    }
    const content = Buffer.concat((file ?? data!).split(':').map(read))
    if (file !== undefined && content.length < HEADER_BYTES) {
      throw new CliError(
        `ACPI table with header too short: ${content.length} bytes of at least ${HEADER_BYTES}`,
      )
    }
    settings.acpiTables.push(tableOf(content, file !== undefined, values))
  },
})

function tableOf(
  content: Uint8Array,
  hasHeader: boolean,
  values: ReadonlyMap<string, string>,
): Uint8Array {
  const offset = hasHeader ? 0 : HEADER_BYTES
  const length = offset + content.length
  if (length > MOST_TABLE_BYTES) {
    throw new CliError(`ACPI table too big, requested: ${length}, max: ${MOST_TABLE_BYTES}`)
  }
  const table = new Table(length)
  table.bytes.set(content, offset)
  table.u32(4, length)
  for (const field of FIELDS) {
    const value = values.get(field.key) ?? (hasHeader ? undefined : field.preset)
    if (value !== undefined) setField(table, field, value)
  }
  return table.checksum(9).bytes
}

function setField(table: Table, { key, at, bytes, isText }: HeaderField, value: string): void {
  if (isText) {
    if (value.length > bytes || /[^\x20-\x7e]/.test(value)) {
      throw new CliError(`Parameter '${key}' expects at most ${bytes} characters, not '${value}'`)
    }
    table.text(at, value.padEnd(bytes, '\0'))
    return
  }
  const most = 2 ** (8 * bytes) - 1
  const number = /^(?:0x[0-9a-f]+|[0-9]+)$/i.test(value) ? Number(value) : -1
  if (number < 0 || number > most) {
    throw new CliError(`Parameter '${key}' expects a number from 0 to ${most}, not '${value}'`)
  }
  if (bytes === 1) table.u8(at, number)
  else table.u32(at, number)
}

function read(path: string): Uint8Array {
  try {
    return readFileSync(path)
  } catch (error) {
    throw new CliError(`can't open file ${path}: ${systemMessage(error)}`)
  }
}
