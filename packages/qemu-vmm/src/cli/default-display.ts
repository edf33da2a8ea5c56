import type { CharPlan } from './char-plan.ts'
import { PROGRAM } from './cli-error.ts'
import type { Settings } from './settings.ts'
import { printError } from './stderr.ts'

/** Where the screen of a machine is shown. */
export type Display = NonNullable<Settings['display']>

/** What shows the screen of a machine, where QEMU opens a window unless it is told. */
export interface DisplayChoice {
  readonly display: Display
  /** Why nobody sees the screen, where that may surprise. */
  readonly note?: string
}

/**
 * What `-display` is where it is not given: the terminal shows the screen. Not where something else has the terminal, or
 * where there is none.
 */
export function defaultDisplay(
  { display, nographic, daemonize, machine }: Settings,
  plan: Pick<CharPlan, 'chardevs'>,
  hasTerminal: boolean,
): DisplayChoice {
  if (display !== undefined) return { display }
  if (nographic || machine === 'none') return { display: 'none' }
  const hasStdio = [...plan.chardevs.values()].some(({ backend }) => backend === 'stdio')
  if (daemonize || hasStdio) return { display: 'none' }
  if (hasTerminal) return { display: 'curses' }
  const note = 'no terminal shows the screen of the machine: it runs as with -display none'
  return { display: 'none', note }
}

/** {@link defaultDisplay} of this process; says so when nobody sees the screen. */
export function chooseDisplay(settings: Settings, plan: CharPlan): Display {
  const { stdin, stdout } = process
  const hasTerminal = stdin.isTTY === true && stdout.isTTY === true
  const { display, note } = defaultDisplay(settings, plan, hasTerminal)
  if (note !== undefined) printError(`${PROGRAM}: ${note}\n`)
  return display
}
