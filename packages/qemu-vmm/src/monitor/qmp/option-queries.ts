import { OPTION_GROUPS } from '../../cli/registry.ts'
import type { OptionSpec } from '../../cli/option.ts'
import type { QmpCommand } from './command.ts'
import { QmpError } from './message.ts'
import { listOf, oneOf, str, struct } from './types.ts'

/** Where QEMU's name for the keys of an option is not the option's own. */
const QEMU_NAMES: Readonly<Record<string, string>> = { boot: 'boot-opts', smp: 'smp-opts' }

/** Commands that ask for options of the command line. */
export const OPTION_QUERIES: readonly QmpCommand[] = [
  {
    name: 'query-command-line-options',
    args: struct({ 'option?': str }),
    returns: listOf(
      struct({
        option: str,
        parameters: listOf(struct({ name: str, type: oneOf(['string', 'boolean']), 'help?': str })),
      }),
    ),
    run: (_context, { option: wanted }) => {
      const all = OPTION_GROUPS.flatMap(({ options }) => options)
        .filter(({ argument }) => argument !== undefined)
        .map(described)
      if (wanted === undefined) return all
      const found = all.filter(({ option }) => option === wanted)
      if (found.length === 0) throw new QmpError(`Invalid parameter '${String(wanted)}'`)
      return found
    },
  },
]

function described({ name, keys = [] }: OptionSpec): { option: string; parameters: object[] } {
  return {
    option: QEMU_NAMES[name] ?? name,
    parameters: keys.map((key) => ({
      name: key.name,
      type: key.value === 'on|off' ? 'boolean' : 'string',
      help: key.help,
    })),
  }
}
