import { resolve } from 'node:path'

import { CliError } from '../cli-error.ts'
import { parseBool } from '../keyval.ts'
import { flagOption, isHelp, keyvalOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'
import type { LogItem } from '../../machine/config.ts'
import { hint } from '../suggest.ts'

/** What can be logged, in the order of the help text. */
const LOG_ITEMS: Readonly<Record<LogItem, string>> = {
  guest_errors: 'what the guest does wrong: accesses that nothing answers',
  unimp: 'what the guest asks for and is not there: commands, registers, instructions',
}

export const processOptions: OptionGroup = {
  title: 'The process',
  options: [
    flagOption(
      'daemonize',
      ['go on in the background once the machine is set up; errors until then end the command'],
      (settings) => {
        settings.daemonize = true
      },
    ),
    {
      name: 'pidfile',
      argument: 'file',
      help: ['write the process id to this file, and remove it at the end'],
      apply(settings, value) {
        settings.pidFile = resolve(value)
      },
    },
    {
      name: 'D',
      argument: 'logfile',
      help: ["write the log to this file instead of standard error; '%d' is the process id"],
      apply(settings, value) {
        settings.logFile = value.replaceAll('%d', String(process.pid))
      },
    },
    keyvalOption({
      name: 'msg',
      argument: '[timestamp=on|off]',
      help: ['how messages look'],
      keys: [{ name: 'timestamp', value: 'on|off', help: 'the time in front (default: off)' }],
      take(settings, values) {
        settings.logTimes = parseBool(values.get('timestamp') ?? 'off', 'timestamp')
      },
    }),
    {
      name: 'd',
      argument: 'item1[,...]',
      help: ["log these items ('-d help' lists them)"],
      apply(settings, value) {
        if (isHelp(value)) return listItems()
        const names = Object.keys(LOG_ITEMS) as LogItem[]
        settings.logItems = new Set(
          value.split(',').map((word) => {
            const item = names.find((name) => name === word)
            if (item === undefined) {
              throw new CliError(`unknown log item '${word}'${hint(word, names)}`)
            }
            return item
          }),
        )
        return undefined
      },
    },
  ],
}

function listItems(): string {
  return [
    'Log items (comma separated):',
    ...Object.entries(LOG_ITEMS).map(([name, help]) => `${name.padEnd(15)} ${help}`),
  ].join('\n')
}
