import { READ_ONLY_MODES } from '../machine/removable-media.ts'
import { MonitorError } from './command.ts'
import type { MonitorCommand } from './command.ts'
import { newMedium } from './qmp/media-commands.ts'

/** Commands for media that come and go. */
export const MEDIA_COMMANDS: readonly MonitorCommand[] = [
  {
    name: 'change',
    params: 'device [-f] filename [format [read-only-mode]]',
    help: 'put another image into a drive; with -f also where the guest has locked its tray',
    maxArgs: 5,
    run: async ({ machine }, args) => {
      const [device, ...rest] = args
      const force = rest[0] === '-f'
      const [file, format, mode] = force ? rest.slice(1) : rest
      const readOnlyMode = READ_ONLY_MODES.find((name) => name === mode)
      if (mode !== undefined && readOnlyMode === undefined) {
        throw new MonitorError(`Error: invalid parameter value: ${mode}`)
      }
      const name = { device: expected(device, 'change', 'block device name') }
      const medium = { file: expected(file, 'change', 'filename'), format, readOnlyMode, force }
      await machine.manage('changeMedium', name, newMedium(medium))
      return ''
    },
  },
  {
    name: 'eject',
    params: '[-f] device',
    help: 'take the medium out of a drive; with -f also where the guest has locked its tray',
    maxArgs: 2,
    run: async ({ machine }, args) => {
      const force = args[0] === '-f'
      const device = expected(args[force ? 1 : 0], 'eject', 'block device name')
      await machine.manage('eject', { device }, force)
      return ''
    },
  },
]

function expected(value: string | undefined, command: string, what: string): string {
  if (value !== undefined) return value
  throw new MonitorError(`${command}: ${what} expected\nTry "help ${command}" for more information`)
}
