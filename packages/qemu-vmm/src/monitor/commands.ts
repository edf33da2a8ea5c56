import { MonitorError } from './command.ts'
import type { MonitorCommand, MonitorContext } from './command.ts'
import { hint } from '../cli/suggest.ts'
import { BALLOON_COMMANDS } from './balloon.ts'
import { CHARDEV_COMMANDS } from './chardev.ts'
import { DISPLAY_COMMANDS } from './display.ts'
import { DEVICE_COMMANDS, OBJECT_COMMANDS } from './hotplug.ts'
import { INFO_COMMANDS } from './info.ts'
import { LINK_COMMANDS, NETWORK_COMMANDS } from './network.ts'
import { MEDIA_COMMANDS } from './media.ts'
import { MEMORY_COMMANDS } from './memory.ts'
import { RINGBUF_COMMANDS } from './ringbuf.ts'

const COMMANDS: readonly MonitorCommand[] = [
  ...BALLOON_COMMANDS,
  ...CHARDEV_COMMANDS,
  {
    name: 'cont',
    alias: 'c',
    params: '',
    help: 'let the machine go on',
    maxArgs: 0,
    run: async ({ machine }) => {
      await machine.resume()
      return ''
    },
  },
  ...DEVICE_COMMANDS,
  ...MEDIA_COMMANDS,
  {
    name: 'help',
    alias: '?',
    params: '[cmd]',
    help: 'show all commands, or one',
    maxArgs: 2,
    run: (_context, words) => helpText(words),
  },
  {
    name: 'info',
    params: '[subcommand]',
    help: 'show something about the machine',
    maxArgs: 0,
    subcommands: INFO_COMMANDS,
    run: () => helpText(['info']),
  },
  ...NETWORK_COMMANDS,
  ...OBJECT_COMMANDS,
  {
    name: 'quit',
    alias: 'q',
    params: '',
    help: 'end the machine and the program',
    maxArgs: 0,
    run: ({ quit }) => {
      quit()
      return ''
    },
  },
  ...RINGBUF_COMMANDS,
  ...DISPLAY_COMMANDS,
  ...LINK_COMMANDS,
  {
    name: 'stop',
    alias: 's',
    params: '',
    help: 'stop the machine',
    maxArgs: 0,
    run: async ({ machine }) => {
      await machine.pause()
      return ''
    },
  },
  {
    name: 'system_powerdown',
    params: '',
    help: 'press the power button',
    maxArgs: 0,
    run: ({ machine }) => {
      machine.powerdown()
      return ''
    },
  },
  {
    name: 'system_reset',
    params: '',
    help: 'reset the machine',
    maxArgs: 0,
    run: async ({ machine }) => {
      await machine.reset()
      return ''
    },
  },
  {
    name: 'system_wakeup',
    params: '',
    help: 'wake the guest up from suspend to RAM',
    maxArgs: 0,
    run: async ({ machine }) => {
      await machine.manage('wakeUp')
      return ''
    },
  },
  ...MEMORY_COMMANDS,
]

/** Every command of the monitor, in alphabetical order. */
export const MONITOR_COMMANDS: readonly MonitorCommand[] = COMMANDS.toSorted((a, b) =>
  a.name < b.name ? -1 : 1,
)

/** Commands of QEMU's that there is nothing for, and why. */
const ABSENT: ReadonlyMap<string, string> = new Map(
  Object.entries({
    savevm: 'images keep no states of machines; saveState() of the library saves one',
    loadvm: 'images keep no states of machines; loadState() of the library loads one',
    delvm: 'images keep no states of machines',
    'info snapshots': 'images keep no states of machines',
    'info usb': 'there is no controller for USB',
    'info usbhost': 'there is no controller for USB',
    migrate: 'machines do not migrate yet',
  }),
)

/**
 * Runs one line of the monitor.
 *
 * @returns what to show, with `\n` at the end of each line; errors of the command included
 */
export async function runMonitorLine(context: MonitorContext, line: string): Promise<string> {
  // A format may stand at the name of its command.
  const words = line
    .trim()
    .replace(/^(print|p|x|xp)(?=\/)/, '$1 ')
    .split(/\s+/)
  if (words[0] === '' || words[0] === undefined) return ''
  try {
    const { command, args, path } = resolve(words)
    if (args.length > command.maxArgs) {
      return (
        `${names(command)}: extraneous characters at the end of line\n` +
        `Try "help ${path}" for more information\n`
      )
    }
    return await command.run(context, args)
  } catch (error) {
    if (error instanceof MonitorError) return `${error.message}\n`
    return `Error: ${error instanceof Error ? error.message : String(error)}\n`
  }
}

/** Words that can stand where the last word of the text does. */
export function completeMonitorLine(text: string): readonly string[] {
  const words = text.trimStart().split(/\s+/)
  let commands: readonly MonitorCommand[] = MONITOR_COMMANDS
  for (const word of words.slice(0, -1)) {
    const command = commands.find((candidate) => isNamed(candidate, word))
    if (command?.name === 'help') continue
    commands = command?.subcommands ?? []
  }
  return commands.map((command) => command.name)
}

function resolve(words: readonly string[]): {
  command: MonitorCommand
  args: readonly string[]
  path: string
} {
  let commands = MONITOR_COMMANDS
  const path: string[] = []
  for (let used = 1; ; used++) {
    const word = words[used - 1] ?? ''
    const command = commands.find((candidate) => isNamed(candidate, word))
    if (command === undefined) {
      const line = [...path, word].join(' ')
      const why = ABSENT.get(line)
      if (why !== undefined) throw new MonitorError(`Error: ${line}: ${why}`)
      const near = hint(
        word,
        commands.map((candidate) => candidate.name),
      )
      throw new MonitorError(`unknown command: '${line}'${near}`)
    }
    path.push(command.name)
    const args = words.slice(used)
    if (command.subcommands === undefined || args.length === 0) {
      return { command, args, path: path.join(' ') }
    }
    commands = command.subcommands
  }
}

function helpText(words: readonly string[]): string {
  if (words.length === 0) return MONITOR_COMMANDS.map((command) => helpLine(command)).join('')
  const { command, path } = resolve(words)
  const prefix = path.slice(0, path.length - command.name.length)
  if (command.subcommands === undefined) return helpLine(command, prefix)
  return command.subcommands.map((sub) => helpLine(sub, `${command.name} `)).join('')
}

function helpLine(command: MonitorCommand, prefix: string = ''): string {
  return `${prefix}${names(command)} ${command.params} -- ${command.help}\n`
}

function names({ name, alias }: MonitorCommand): string {
  return alias === undefined ? name : `${name}|${alias}`
}

function isNamed(command: MonitorCommand, word: string): boolean {
  return command.name === word || command.alias === word
}
