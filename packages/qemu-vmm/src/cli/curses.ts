import { CursesDisplay } from '../display/curses-display.ts'
import type { VirtualMachine } from '../machine/virtual-machine.ts'
import { RawMode } from '../terminal/raw-mode.ts'
import { CliError } from './cli-error.ts'
import type { Settings } from './settings.ts'

/** What a terminal that does not tell its size is taken to have. */
const USUAL = { columns: 80, rows: 25 } as const

/** Throws CliError where there is no terminal to draw on. */
export function checkTerminal(): void {
  if (process.stdin.isTTY && process.stdout.isTTY) return
  throw new CliError('needs a terminal for input and output; use -display none', '-display curses')
}

/** Shows the screen of a machine that runs on the terminal. */
export function openCurses(
  vm: VirtualMachine,
  { escapeCode }: Settings,
  onQuit: () => void,
): CursesDisplay {
  const { stdin, stdout } = process
  const display = new CursesDisplay({
    machine: vm,
    input: stdin,
    output: stdout,
    raw: new RawMode(stdin),
    size: () => ({ columns: stdout.columns || USUAL.columns, rows: stdout.rows || USUAL.rows }),
    escapeCode,
    onQuit,
  })
  // However the process ends, the terminal is left as it was.
  process.once('exit', () => display.close())
  return display
}
