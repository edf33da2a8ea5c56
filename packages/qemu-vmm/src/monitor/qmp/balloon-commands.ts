import type { QmpCommand } from './command.ts'
import { QmpError } from './message.ts'
import { int, struct } from './types.ts'

/** Commands for the memory balloon. */
export const BALLOON_COMMANDS: readonly QmpCommand[] = [
  {
    name: 'balloon',
    args: struct({ value: int }),
    run: async ({ machine }, { value }) => {
      // That there is none is said first, as in QEMU.
      await machine.manage('balloon')
      if ((value as number) <= 0) throw new QmpError("Parameter 'target' expects a size")
      await machine.manage('setBalloon', value as number)
    },
  },
  {
    name: 'query-balloon',
    args: struct({}),
    returns: struct({ actual: int }),
    run: async ({ machine }) => ({ actual: await machine.manage('balloon') }),
  },
]
