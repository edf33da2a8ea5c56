import { checkId, chardev } from '../cli/options/chardev.ts'
import { defaultSettings } from '../cli/settings.ts'
import type { ChardevSettings } from '../cli/settings.ts'
import { MonitorError } from './command.ts'
import type { MonitorCommand } from './command.ts'

/** Commands for character devices. */
export const CHARDEV_COMMANDS: readonly MonitorCommand[] = [
  {
    name: 'chardev-add',
    params: 'args',
    help: 'add a character device, as -chardev does',
    maxArgs: Number.POSITIVE_INFINITY,
    run: async ({ characters }, args) => {
      const read = readChardev(expected(args.join(' '), 'chardev-add', 'args'))
      if (typeof read === 'string') return `${read}\n`
      const { pty } = await characters.add(...read)
      return pty === undefined ? '' : `char device redirected to ${pty} (label ${read[0]})\n`
    },
  },
  {
    name: 'chardev-change',
    params: 'id args',
    help: 'put another character device in the place of one',
    maxArgs: Number.POSITIVE_INFINITY,
    run: async ({ characters }, [id, ...args]) => {
      const name = expected(id, 'chardev-change', 'id')
      checkId(name)
      const value = expected(args.join(' '), 'chardev-change', 'args')
      const read = readChardev(`${value},id=${name}`)
      if (typeof read === 'string') return `${read}\n`
      const { pty } = await characters.change(...read)
      return pty === undefined ? '' : `char device redirected to ${pty} (label ${name})\n`
    },
  },
  {
    name: 'chardev-remove',
    params: 'id',
    help: 'remove a character device that nothing uses',
    maxArgs: 1,
    run: ({ characters }, [id]) => {
      characters.remove(expected(id, 'chardev-remove', 'id'))
      return ''
    },
  },
  {
    name: 'chardev-send-break',
    params: 'id',
    help: 'act as if the other end of a character device had sent a break',
    maxArgs: 1,
    run: ({ characters }, [id]) => {
      characters.sendBreak(expected(id, 'chardev-send-break', 'id'))
      return ''
    },
  },
]

/** Its id and what it is, or a text to print. Throws `CliError`. */
function readChardev(value: string): [string, ChardevSettings] | string {
  const settings = defaultSettings()
  const text = chardev.apply(settings, value, value)
  if (typeof text === 'string') return text
  return [...settings.chardevs][0]!
}

function expected(value: string | undefined, command: string, what: string): string {
  if (value !== undefined && value !== '') return value
  throw new MonitorError(`${command}: ${what}: string expected`)
}
