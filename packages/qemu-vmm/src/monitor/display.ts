import { writeFile } from 'node:fs/promises'

import { encodePng, encodePpm } from '../display/png.ts'
import { VmmError } from '../errors.ts'
import { MonitorError } from './command.ts'
import type { MonitorCommand, MonitoredMachine } from './command.ts'

export const HOLD_MS = 100
export const MAX_HOLD_MS = 60_000
export const MAX_KEYS = 16

/** Commands for the screen and the keyboard. */
export const DISPLAY_COMMANDS: readonly MonitorCommand[] = [
  {
    name: 'screendump',
    params: 'filename [-f format]',
    help: 'write the screen to a file, as ppm (the default) or png',
    maxArgs: 3,
    run: async ({ machine }, args) => {
      const { file, format } = parse(args)
      await writeScreen(machine, file, format)
      return ''
    },
  },
  {
    name: 'sendkey',
    params: 'keys [hold_ms]',
    help: 'press keys together, as ctrl-alt-delete, for 100 ms or as many as are given',
    maxArgs: 2,
    run: async ({ machine }, [keys, hold = String(HOLD_MS)]) => {
      if (keys === undefined) throw new MonitorError('sendkey: string expected')
      if (!/^\d+$/.test(hold) || Number(hold) > MAX_HOLD_MS) {
        throw new MonitorError(`hold_ms is a number from 0 to ${MAX_HOLD_MS}, not '${hold}'`)
      }
      const names = keys.split('-')
      if (names.length > MAX_KEYS) throw new MonitorError('too many keys')
      await machine.sendKeys(names, Number(hold))
      return ''
    },
  },
]

/** Writes what is on the screen to a file. Rejects with `E_FILE`, and with `E_CONFIG` without a screen. */
export async function writeScreen(
  machine: Pick<MonitoredMachine, 'picture'>,
  file: string,
  format: 'ppm' | 'png',
): Promise<void> {
  const picture = await machine.picture()
  try {
    await writeFile(file, format === 'png' ? encodePng(picture) : encodePpm(picture))
  } catch (error) {
    throw new VmmError('E_FILE', `failed to open file '${file}': ${(error as Error).message}`, {
      fields: { file },
      cause: error,
    })
  }
}

function parse(args: readonly string[]): { file: string; format: 'ppm' | 'png' } {
  const at = args.indexOf('-f')
  const format = at < 0 ? 'ppm' : args[at + 1]
  const files = at < 0 ? args : args.toSpliced(at, 2)
  const [file] = files
  if (file === undefined) throw new MonitorError('screendump: filename expected')
  if (files.length > 1) throw new MonitorError('the machine has one screen: give no device')
  if (format !== 'ppm' && format !== 'png') {
    throw new MonitorError(`Error: invalid parameter '${format ?? ''}': the format is ppm or png`)
  }
  return { file, format }
}
