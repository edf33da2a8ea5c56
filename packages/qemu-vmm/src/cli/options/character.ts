import { CliError } from '../cli-error.ts'
import { parseBool } from '../keyval.ts'
import { choice, flagOption, keyvalOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'
import type { CharUser, Settings } from '../settings.ts'
import { FORMS_HELP, shortChardev } from './char-short.ts'
import { chardev } from './chardev.ts'

const DISPLAYS = ['none', 'curses'] as const
const MAX_SERIALS = 4
const MAX_PARALLELS = 3

export const character: OptionGroup = {
  title: 'Terminal, serial ports and monitor',
  options: [
    flagOption(
      'nographic',
      ['no display: the first serial port and the monitor share this terminal, Ctrl-A h helps'],
      (settings) => {
        settings.nographic = true
      },
    ),
    keyvalOption({
      name: 'display',
      argument: '[type=]none|curses',
      implied: 'type',
      help: [
        'kind of display: none, or curses for text modes on this terminal, ended by Ctrl-A x',
        '(default: curses where the terminal is free)',
      ],
      keys: [{ name: 'type', value: 'none|curses', help: 'kind of display' }],
      list: () => ['Available display backend types:', ...DISPLAYS].join('\n'),
      take(settings, values) {
        settings.display = choice(
          values.get('type') ?? '',
          DISPLAYS,
          "Parameter 'type' does not accept value",
        )
      },
    }),
    {
      name: 'vnc',
      argument: 'none',
      help: ["no display, as '-display none'; there is no VNC server yet"],
      apply(settings, value) {
        if (value !== 'none') throw new CliError("there is no VNC server yet, only 'none' works")
        settings.display = 'none'
      },
    },
    {
      name: 'serial',
      argument: 'dev',
      repeatable: true,
      help: ['connect the next serial port; up to four times, to', ...FORMS_HELP],
      apply(settings, value, at) {
        if (settings.serials.length === MAX_SERIALS) {
          throw new CliError(`too many serial ports: a PC has ${MAX_SERIALS}`)
        }
        settings.serials.push(charUser(value, at))
      },
    },
    {
      name: 'parallel',
      argument: 'dev',
      repeatable: true,
      help: ['connect the next parallel port; up to three times, dev as for -serial'],
      apply(settings, value, at) {
        if (settings.parallels.length === MAX_PARALLELS) {
          throw new CliError(`too many parallel ports: a PC has ${MAX_PARALLELS}`)
        }
        settings.parallels.push(charUser(value, at))
      },
    },
    {
      name: 'monitor',
      argument: 'dev',
      repeatable: true,
      help: ['connect a monitor, dev as for -serial'],
      apply(settings, value, at) {
        settings.monitors.push(charUser(value, at))
      },
    },
    {
      name: 'debugcon',
      argument: 'dev',
      help: ['connect the debug console at port 0xe9, where firmware logs; dev as for -serial'],
      apply(settings, value, at) {
        const made = shortChardev(value, at)
        if (value === 'none') return
        if (made !== undefined) {
          if (settings.chardevs.has('debugcon')) {
            throw new CliError("Duplicate ID 'debugcon' for chardev")
          }
          settings.chardevs.set('debugcon', made)
        }
        const id = made === undefined ? value.slice('chardev:'.length) : 'debugcon'
        const properties = { iobase: '0xe9', chardev: id }
        settings.devices.push({ driver: 'isa-debugcon', properties })
      },
    },
    ...['qmp', 'qmp-pretty'].map((name) => ({
      name,
      argument: 'dev',
      repeatable: true,
      help: [
        name === 'qmp'
          ? 'connect a monitor that speaks QMP, the protocol for programs; dev as for -serial'
          : 'the same with values over several lines',
      ],
      apply(settings: Settings, value: string, at: string) {
        const control = { pretty: name === 'qmp-pretty' }
        settings.monitors.push({ ...charUser(value, at), control })
      },
    })),
    chardev,
    keyvalOption({
      name: 'mon',
      argument: '[chardev=]id[,mode=readline|control][,pretty=on|off]',
      implied: 'chardev',
      repeatable: true,
      help: ['monitor on a character device'],
      keys: [
        { name: 'chardev', value: 'id', help: 'the character device' },
        { name: 'id', value: 'id', help: 'name of the monitor' },
        {
          name: 'mode',
          value: 'readline|control',
          help: 'kind of monitor: for people, or QMP (default: readline)',
        },
        { name: 'pretty', value: 'on|off', help: 'control: values over several lines' },
      ],
      take(settings, values, at) {
        const modes = ['readline', 'control'] as const
        const mode = choice(values.get('mode') ?? 'readline', modes, 'unsupported monitor mode')
        if (values.has('pretty') && mode !== 'control') {
          throw new CliError("'pretty' is not compatible with HMP monitors")
        }
        const pretty = parseBool(values.get('pretty') ?? 'off', 'pretty')
        const control = mode === 'control' ? { control: { pretty } } : {}
        const id = values.get('chardev')
        if (id === undefined) throw new CliError("Parameter 'chardev' is missing")
        const name = values.get('id')
        if (name !== undefined && settings.monitors.some((other) => other.id === name)) {
          throw new CliError(`Duplicate ID '${name}' for mon`)
        }
        const named = name === undefined ? {} : { id: name }
        settings.monitors.push({ device: `chardev:${id}`, at, ...control, ...named })
      },
    }),
    {
      name: 'echr',
      argument: 'code',
      help: ['character that begins a command of the terminal, as a number (default: 1, Ctrl-A)'],
      apply(settings, value) {
        const code = /^(0x[0-9a-f]+|[0-9]+)$/i.test(value) ? Number(value) : Number.NaN
        if (!(code >= 1 && code <= 26)) {
          throw new CliError(`expects a number from 1 (Ctrl-A) to 26 (Ctrl-Z), not '${value}'`)
        }
        settings.escapeCode = code
      },
    },
  ],
}

function charUser(device: string, at: string): CharUser {
  shortChardev(device, at)
  return { device, at }
}
