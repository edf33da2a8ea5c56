import type { VirtualMachine } from '../../machine/virtual-machine.ts'
import type { ChardevInfo, MonitoredMachine } from '../command.ts'
import type { BlockNodes } from './block-nodes.ts'
import { QmpError } from './message.ts'

/** What commands work on. */
export interface QmpContext {
  machine: MonitoredMachine & Pick<VirtualMachine, 'on'>
  name: string | undefined
  uuid: string | undefined
  chardevs(): readonly ChardevInfo[]
  nodes: BlockNodes
  /** Runs a line of the human monitor and returns what it shows. */
  human(line: string): Promise<string>
  /** Ends the machine and the process. */
  quit(): void
  /** Milliseconds since 1970, for the time stamps of events. */
  wallMs(): number
}

type Kind = 'string' | 'boolean' | 'object' | 'number'

/** An argument; `any` arguments are what the command makes of them. */
export interface QmpArgument {
  type: Kind
  optional?: boolean
}

/** A command of QMP. */
export interface QmpCommand {
  name: string
  /** By name; absent where all are taken as they are, as for devices. */
  args?: Readonly<Record<string, QmpArgument>>
  run(context: QmpContext, args: Readonly<Record<string, unknown>>): unknown
}

/** Throws `QmpError` for arguments that a command does not take. */
export function checkArguments(
  { args: known }: QmpCommand,
  args: Readonly<Record<string, unknown>>,
): void {
  if (known === undefined) return
  for (const [name, { type, optional = false }] of Object.entries(known)) {
    const value = args[name]
    if (value === undefined && !optional) throw new QmpError(`Parameter '${name}' is missing`)
    if (value !== undefined && typeof value !== type) {
      throw new QmpError(`Invalid parameter type for '${name}', expected: ${type}`)
    }
  }
  const other = Object.keys(args).find((name) => !Object.hasOwn(known, name))
  if (other !== undefined) throw new QmpError(`Parameter '${other}' is unexpected`)
}
