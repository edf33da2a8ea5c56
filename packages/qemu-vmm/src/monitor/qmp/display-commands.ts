import { HOLD_MS, MAX_HOLD_MS, MAX_KEYS, writeScreen } from '../display.ts'
import type { QmpCommand } from './command.ts'
import { QmpError, isObject } from './message.ts'

/** Commands for the screen and the keyboard. */
export const QMP_DISPLAY_COMMANDS: readonly QmpCommand[] = [
  {
    name: 'screendump',
    args: { filename: { type: 'string' }, format: { type: 'string', optional: true } },
    run: async ({ machine }, { filename, format = 'ppm' }) => {
      if (format !== 'ppm' && format !== 'png') {
        throw new QmpError(`Parameter 'format' does not accept value '${String(format)}'`)
      }
      await writeScreen(machine, filename as string, format)
    },
  },
  {
    name: 'send-key',
    args: { keys: { type: 'object' }, 'hold-time': { type: 'number', optional: true } },
    run: async ({ machine }, { keys, 'hold-time': hold = HOLD_MS }) => {
      if (!Array.isArray(keys)) {
        throw new QmpError("Invalid parameter type for 'keys', expected: array")
      }
      if (keys.length > MAX_KEYS) throw new QmpError(`more than ${MAX_KEYS} keys at once`)
      const ms = hold as number
      if (!(ms >= 0 && ms <= MAX_HOLD_MS)) {
        throw new QmpError(`Parameter 'hold-time' expects milliseconds up to ${MAX_HOLD_MS}`)
      }
      await machine.sendKeys((keys as unknown[]).map(keyName), ms)
    },
  },
]

/** Keys are given by name. Numbers, which are codes of one keyboard, are not taken. */
function keyName(key: unknown): string {
  if (isObject(key) && key['type'] === 'qcode' && typeof key['data'] === 'string') {
    return key['data']
  }
  throw new QmpError('Parameter \'keys\' expects names: {"type": "qcode", "data": "ret"}')
}
