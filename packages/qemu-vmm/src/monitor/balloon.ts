import { MonitorError } from './command.ts'
import type { MonitorCommand } from './command.ts'

const MIB = 1 << 20

/** Commands for the memory balloon. */
export const BALLOON_COMMANDS: readonly MonitorCommand[] = [
  {
    name: 'balloon',
    params: 'target',
    help: 'ask the guest to make do with so many MiB of memory',
    maxArgs: 1,
    run: async ({ machine }, [target = '']) => {
      if (!/^[0-9]{1,9}$/.test(target)) throw new MonitorError('balloon: a number of MiB expected')
      if (Number(target) === 0) throw new MonitorError("Error: Parameter 'target' expects a size")
      await machine.manage('setBalloon', Number(target) * MIB)
      return ''
    },
  },
]

/** The word after `info`. */
export const BALLOON_INFO: MonitorCommand = {
  name: 'balloon',
  params: '',
  help: 'show how much memory the balloon leaves the guest',
  maxArgs: 0,
  run: async ({ machine }) =>
    `balloon: actual=${Math.floor((await machine.manage('balloon')) / MIB)}\n`,
}
