import type { Chardev } from '../chardev/chardev.ts'
import { FileChardev } from '../chardev/file.ts'
import { Mux } from '../chardev/mux.ts'
import { NullChardev } from '../chardev/null.ts'
import { StdioChardev } from '../chardev/stdio.ts'
import { RawMode } from '../terminal/raw-mode.ts'
import type { CharPlan } from './char-plan.ts'
import { CliError } from './cli-error.ts'
import type { ChardevSettings } from './settings.ts'
import { systemMessage } from './system-error.ts'

/** A reader that takes nothing for so long does not hold up the end of the process. */
const STALL_MS = 2000

/** Open character devices, connected to those who will use them. */
export interface CharWiring {
  serials: (Chardev | undefined)[]
  monitors: Chardev[]
  /** Resolves when output is out, or nobody takes it. */
  drained(): Promise<void>
  close(): void
}

export interface WiringOptions {
  escapeCode: number
  /** Ctrl-A x. */
  onQuit: () => void
  report: (message: string) => void
}

/** @throws CliError when a device cannot be opened; none stays open then */
export function openChardevs(plan: CharPlan, options: WiringOptions): CharWiring {
  const stdios: StdioChardev[] = []
  const opened = new Map<string, { base: Chardev; user: () => Chardev }>()
  const close = (): void => {
    for (const { base } of opened.values()) base.close()
  }
  try {
    for (const [id, chardev] of plan.chardevs) {
      const base = openBase(chardev, options)
      if (base instanceof StdioChardev) stdios.push(base)
      if (!chardev.mux) {
        opened.set(id, { base, user: () => base })
        continue
      }
      const mux = new Mux(base, options)
      opened.set(id, { base, user: () => mux.addPort() })
    }
  } catch (error) {
    close()
    throw error
  }
  const user = (id: string | undefined): Chardev | undefined =>
    id === undefined ? undefined : opened.get(id)?.user()
  return {
    serials: plan.serials.map(user),
    monitors: plan.monitors.map(user).filter((chardev) => chardev !== undefined),
    async drained() {
      for (const stdio of stdios) await stdio.drained(STALL_MS)
    },
    close,
  }
}

function openBase(chardev: ChardevSettings, options: WiringOptions): Chardev {
  switch (chardev.backend) {
    case 'null':
      return new NullChardev()
    case 'file':
      return openFile(chardev, options)
    case 'stdio': {
      const raw = new RawMode(process.stdin)
      // Signals of the keyboard go to the whole foreground group, as the terminal sends them.
      const raise = (signal: NodeJS.Signals): void => void process.kill(0, signal)
      return new StdioChardev(
        process.stdin,
        process.stdout,
        raw,
        chardev.signal ? raise : undefined,
      )
    }
  }
}

function openFile({ path = '', append, at }: ChardevSettings, options: WiringOptions): Chardev {
  try {
    return new FileChardev(path, append === true, options.report)
  } catch (error) {
    throw new CliError(`Could not open '${path}': ${systemMessage(error)}`, at)
  }
}
