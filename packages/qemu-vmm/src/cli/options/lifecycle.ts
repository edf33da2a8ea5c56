import { choice, flagOption, keyvalOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'

const REBOOT = ['reset', 'shutdown'] as const
const SHUTDOWN = ['poweroff', 'pause'] as const
const PANIC = ['pause', 'shutdown', 'exit-failure', 'none'] as const

export const lifecycle: OptionGroup = {
  title: 'Life of the machine',
  options: [
    flagOption('S', ["do not start the processors; 'cont' in the monitor does"], (settings) => {
      settings.startPaused = true
    }),
    flagOption('no-reboot', ['end when the guest resets'], (settings) => {
      settings.reboot = false
    }),
    flagOption(
      'no-shutdown',
      ['stop the processors instead of ending when the guest powers off'],
      (settings) => {
        settings.shutdown = false
      },
    ),
    keyvalOption({
      name: 'action',
      argument:
        'reboot=reset|shutdown,shutdown=poweroff|pause,panic=pause|shutdown|exit-failure|none',
      repeatable: true,
      help: ['what happens when the guest resets, powers off, or panics'],
      keys: [
        { name: 'reboot', value: REBOOT.join('|'), help: 'when it resets (default: reset)' },
        { name: 'shutdown', value: SHUTDOWN.join('|'), help: 'at power-off (default: poweroff)' },
        {
          name: 'panic',
          value: PANIC.join('|'),
          help: 'when its kernel panics, which takes -device pvpanic (default: shutdown)',
        },
      ],
      refused: { watchdog: 'there is no watchdog device' },
      take(settings, values) {
        const word = <T extends string>(key: string, valid: readonly T[]): T | undefined => {
          const value = values.get(key)
          if (value === undefined) return undefined
          return choice(value, valid, `Parameter '${key}' does not accept value`)
        }
        const reboot = word('reboot', REBOOT)
        if (reboot !== undefined) settings.reboot = reboot === 'reset'
        const shutdown = word('shutdown', SHUTDOWN)
        if (shutdown !== undefined) settings.shutdown = shutdown === 'poweroff'
        settings.panicAction = word('panic', PANIC) ?? settings.panicAction
      },
    }),
    flagOption(
      'no-user-config',
      ['read no configuration of the user; none is ever read but by -readconfig'],
      () => {},
    ),
    flagOption(
      'nodefaults',
      ['no serial port, monitor, VGA, CD drive or network card unless asked for'],
      (settings) => {
        settings.defaultDevices = false
      },
    ),
  ],
}
