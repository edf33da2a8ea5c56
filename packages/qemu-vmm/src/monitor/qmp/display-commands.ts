import { KEYS } from '../../display/keys.ts'
import { HOLD_MS, MAX_HOLD_MS, MAX_KEYS, writeScreen } from '../display.ts'
import type { QmpCommand } from './command.ts'
import { QmpError } from './message.ts'
import { int, listOf, oneOf, str, struct } from './types.ts'
import type { QmpType } from './types.ts'

/** Keys are given by name, or by number as libvirt does. */
const KEY: QmpType = {
  meta: 'object',
  members: { type: { type: oneOf(['number', 'qcode']) } },
  tag: 'type',
  variants: { number: { data: { type: int } }, qcode: { data: { type: oneOf([...KEYS.keys()]) } } },
}

/** Names of keys by number: the code in scan code set 1, with the highest bit for extended ones. */
const NUMBERS: ReadonlyMap<number, string> = new Map(
  [...KEYS].map(([name, { set1, extended }]) => [set1 | (extended ? 0x80 : 0), name]),
)

function keyName({ type, data }: { type: string; data: number | string }): string {
  if (type === 'qcode') return data as string
  const name = NUMBERS.get(data as number)
  if (name === undefined) throw new QmpError(`Parameter 'data' does not accept value '${data}'`)
  return name
}

/** Commands for the screen and the keyboard. */
export const QMP_DISPLAY_COMMANDS: readonly QmpCommand[] = [
  {
    name: 'screendump',
    args: struct({ filename: str, 'format?': oneOf(['ppm', 'png']) }),
    run: async ({ machine }, { filename, format = 'ppm' }) => {
      await writeScreen(machine, filename as string, format as 'ppm' | 'png')
    },
  },
  {
    name: 'send-key',
    args: struct({ keys: listOf(KEY), 'hold-time?': int }),
    run: async ({ machine }, { keys, 'hold-time': hold = HOLD_MS }) => {
      const names = (keys as readonly { type: string; data: number | string }[]).map(keyName)
      if (names.length > MAX_KEYS) throw new QmpError(`more than ${MAX_KEYS} keys at once`)
      const ms = hold as number
      if (!(ms >= 0 && ms <= MAX_HOLD_MS)) {
        throw new QmpError(`Parameter 'hold-time' expects milliseconds up to ${MAX_HOLD_MS}`)
      }
      await machine.sendKeys(names, ms)
    },
  },
]
