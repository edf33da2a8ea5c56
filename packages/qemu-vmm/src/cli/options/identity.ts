import { CliError } from '../cli-error.ts'
import { parseBool } from '../keyval.ts'
import { keyvalOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

export const identity: OptionGroup = {
  title: 'Identity',
  options: [
    keyvalOption({
      name: 'name',
      argument: '[guest=]name[,process=title][,debug-threads=on]',
      implied: 'guest',
      help: ['what the guest and the process are called'],
      keys: [
        { name: 'guest', value: 'name', help: "name of the guest, shown by 'info name'" },
        { name: 'process', value: 'title', help: 'name of the process, as ps shows it' },
        { name: 'debug-threads', value: 'on', help: 'threads have names; they always do' },
      ],
      take(settings, values) {
        const guest = values.get('guest')
        if (guest !== undefined) settings.name = guest
        const title = values.get('process')
        if (title !== undefined) settings.processName = title
        if (!parseBool(values.get('debug-threads') ?? 'on', 'debug-threads')) {
          throw new CliError("threads always have names; leave out 'debug-threads=off'")
        }
      },
    }),
    {
      name: 'uuid',
      argument: 'uuid',
      help: ['UUID of the machine, which the guest finds in SMBIOS'],
      apply(settings, value) {
        if (!UUID.test(value)) {
          throw new CliError(
            'failed to parse UUID string: wrong format, eight-four-four-four-twelve hexadecimal ' +
              'digits are expected',
          )
        }
        settings.uuid = value.toLowerCase()
      },
    },
  ],
}
