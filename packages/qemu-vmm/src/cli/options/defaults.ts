import { CliError } from '../cli-error.ts'
import { parseBool, parseKeyval, keyvalMap } from '../keyval.ts'
import { choice, keyvalOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'

/** Options that management programs give to say what is so here anyway; other values are refused. */
export const fixedOptions: OptionGroup = {
  title: 'What cannot be chosen',
  options: [
    keyvalOption({
      name: 'overcommit',
      argument: '[mem-lock=off][,cpu-pm=off]',
      help: ['memory is not locked, and an idle processor leaves the one of the host'],
      keys: [
        { name: 'mem-lock', value: 'off', help: 'lock all memory of the process' },
        { name: 'cpu-pm', value: 'off', help: 'let the guest put processors of the host to sleep' },
      ],
      take(_settings, values) {
        for (const [key, value] of values) {
          if (parseBool(value, key)) throw new CliError(`'${key}=on' is not supported yet`)
        }
      },
    }),
    {
      name: 'audiodev',
      argument: '[driver=]none,id=id',
      repeatable: true,
      help: ['nothing that sounds: there are no sound devices'],
      keys: [
        { name: 'driver', value: 'none', help: 'where sound goes' },
        { name: 'id', value: 'id', help: 'name of the device, required' },
      ],
      apply(_settings, value) {
        const map = value.startsWith('{')
          ? new Map(Object.entries(fromJson(value)))
          : keyvalMap(parseKeyval(value, { implied: 'driver', keys: ['driver', 'id'] }))
        choice(String(map.get('driver') ?? ''), ['none'], 'unsupported audio driver')
        if (!map.has('id')) throw new CliError("Parameter 'id' is missing")
        const other = [...map.keys()].find((key) => key !== 'driver' && key !== 'id')
        if (other !== undefined) throw new CliError(`Parameter '${other}' is unexpected`)
      },
    },
  ],
}

function fromJson(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>
  } catch (error) {
    throw new CliError(`the argument is no JSON object: ${(error as Error).message}`)
  }
}
