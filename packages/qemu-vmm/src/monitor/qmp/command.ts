import type { MachineType } from '../../machine/config.ts'
import type { VirtualMachine } from '../../machine/virtual-machine.ts'
import type { CharacterControl, MonitoredMachine } from '../command.ts'
import type { BlockNodes } from './block-nodes.ts'
import { checkType } from './types.ts'
import type { QmpObject, QmpType } from './types.ts'

/** What the machine was made of, as far as it does not change. */
export interface MachineFacts {
  type: MachineType | 'none'
  cpuModel: string
  /** Bytes of guest memory. */
  memory: number
}

/** What commands work on. */
export interface QmpContext {
  machine: MonitoredMachine & Pick<VirtualMachine, 'on' | 'devices'>
  facts: MachineFacts
  name: string | undefined
  uuid: string | undefined
  characters: CharacterControl
  nodes: BlockNodes
  /** What has been chosen for migrations; all monitors share it. */
  migration: { events: boolean }
  /** Runs a line of the human monitor and returns what it shows. */
  human(line: string): Promise<string>
  /** Ends the machine and the process. */
  quit(): void
  /** Milliseconds since 1970, for the time stamps of events. */
  wallMs(): number
}

/** A command of QMP: what checks it and what tells of it are one description. */
export interface QmpCommand {
  name: string
  args: QmpObject
  /** What it answers; absent where that is an empty object. */
  returns?: QmpType
  run(context: QmpContext, args: Readonly<Record<string, unknown>>): unknown
}

/** Throws `QmpError` for arguments that a command does not take. */
export function checkArguments(
  { args: type }: Pick<QmpCommand, 'args'>,
  args: Readonly<Record<string, unknown>>,
): void {
  checkType(type, args, '')
}
