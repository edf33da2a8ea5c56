// What the command makes of its arguments.
import { CliError } from '../../src/cli/cli-error.ts'
import { machineConfig } from '../../src/cli/machine-config.ts'
import { parseCommand } from '../../src/cli/parse.ts'
import type { Settings } from '../../src/cli/settings.ts'
import type { MachineConfig } from '../../src/machine/config.ts'

/** Readers of arguments that follow those which every one of a test needs. */
export interface CommandLine {
  settings(...argv: string[]): Settings
  config(...argv: string[]): MachineConfig
  /** Why the arguments are refused, or `taken`. */
  refusal(...argv: string[]): string
  /** What is printed instead of a machine that starts, or `nothing`. */
  printed(...argv: string[]): string
}

export function commandLine(...first: string[]): CommandLine {
  const settings = (...argv: string[]): Settings => {
    const command = parseCommand([...first, ...argv])
    if (command.kind === 'print') throw new Error(`printed: ${command.text}`)
    return command.settings
  }
  return {
    settings,
    config: (...argv) =>
      machineConfig(settings(...argv), { serials: [], parallels: [], devices: {} }, () => {}),
    refusal: (...argv) => {
      try {
        parseCommand([...first, ...argv])
      } catch (error) {
        if (error instanceof CliError) return error.message
        throw error
      }
      return 'taken'
    },
    printed: (...argv) => {
      const command = parseCommand([...first, ...argv])
      return command.kind === 'print' ? command.text : 'nothing'
    },
  }
}
