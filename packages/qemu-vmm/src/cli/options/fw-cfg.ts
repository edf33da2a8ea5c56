import { readFileSync } from 'node:fs'

import { FW_CFG_NAME_BYTES } from '../../chipset/fw-cfg.ts'
import { CliError } from '../cli-error.ts'
import { keyvalOption } from '../option.ts'
import type { OptionSpec } from '../option.ts'
import { systemMessage } from '../system-error.ts'

/** Data for the guest, in the firmware configuration device. */
export const fwCfg: OptionSpec = keyvalOption({
  name: 'fw_cfg',
  argument: '[name=]name,file=file|string=str',
  implied: 'name',
  repeatable: true,
  help: ['a file of the firmware configuration device, by a name that begins with opt/'],
  keys: [
    { name: 'name', value: 'name', help: 'name of the file, at most 55 characters' },
    { name: 'file', value: 'file', help: 'what it contains is in this file' },
    { name: 'string', value: 'str', help: 'what it contains, without a zero at the end' },
  ],
  refused: { gen_id: 'there are no objects that make data for fw_cfg' },
  take(settings, values) {
    const name = values.get('name')
    const [file, string] = [values.get('file'), values.get('string')]
    if (name === undefined || name === '') throw new CliError('a name is missing')
    if (name.length >= FW_CFG_NAME_BYTES) {
      throw new CliError(`name too long (max. ${FW_CFG_NAME_BYTES - 1} char)`)
    }
    if (!name.startsWith('opt/')) {
      // The others belong to the machine, and to firmware.
      throw new CliError(`'${name}' is not a name for a guest's file: begin it with opt/`)
    }
    if ((file === undefined) === (string === undefined)) {
      throw new CliError("one of 'file' and 'string' is needed, and not both")
    }
    if (settings.fwCfg.some((other) => other.name === name)) {
      throw new CliError(`duplicate fw_cfg file name: ${name}`)
    }
    settings.fwCfg.push({ name, data: file === undefined ? Buffer.from(string!) : read(file) })
  },
})

function read(path: string): Uint8Array {
  try {
    return Uint8Array.from(readFileSync(path))
  } catch (error) {
    throw new CliError(`can't load ${path}: ${systemMessage(error)}`)
  }
}
