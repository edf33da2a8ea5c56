import { VmmError } from '../errors.ts'
import type { MachineType } from './config.ts'

/** The two boards of PCs. */
export type BoardKind = 'i440fx' | 'q35'

/** What a machine type is. */
export interface MachineKind {
  /** The versioned name, as guests and messages show it. */
  readonly name: Exclude<MachineType, 'pc' | 'q35'>
  readonly board: BoardKind
  /** The product that SMBIOS and lists show. */
  readonly product: string
}

const I440FX: MachineKind = {
  name: 'pc-i440fx-7.2',
  board: 'i440fx',
  product: 'Standard PC (i440FX + PIIX, 1996)',
}
const Q35: MachineKind = {
  name: 'pc-q35-7.2',
  board: 'q35',
  product: 'Standard PC (Q35 + ICH9, 2009)',
}

/** All machine types by name; the short names are those of the newest. */
export const MACHINE_KINDS: Readonly<Record<MachineType, MachineKind>> = {
  pc: I440FX,
  'pc-i440fx-7.2': I440FX,
  q35: Q35,
  'pc-q35-7.2': Q35,
}

export const MACHINE_TYPES: readonly MachineType[] = ['pc', 'pc-i440fx-7.2', 'q35', 'pc-q35-7.2']

/** The machine that a configuration names; `pc` by default. Throws `E_CONFIG` when there is none. */
export function machineKind(machine: { type: MachineType } | undefined): MachineKind {
  const kind = MACHINE_KINDS[machine?.type ?? 'pc']
  if (kind !== undefined) return kind
  throw new VmmError('E_CONFIG', `there is no machine type '${machine?.type}'`)
}
