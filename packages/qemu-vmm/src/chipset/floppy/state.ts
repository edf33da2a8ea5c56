import { VmmError } from '../../errors.ts'
import { bytes, flag, int, parseState, u8 } from '../../machine/state.ts'
import type { FloppyDriveState } from './drive.ts'
import { SECTOR_BYTES } from './drive.ts'

export const RESET_SENSES = 4
export const FIFO_BYTES = 16
/** A cylinder of the densest disk. */
export const DATA_BYTES: number = 72 * SECTOR_BYTES

/** What the FIFO register is for: `execution` is neither, while the host or the DMA channel is awaited. */
export type Phase = 'command' | 'execution' | 'transfer' | 'result'
export const PHASES: readonly Phase[] = ['command', 'execution', 'transfer', 'result']

const MSR_READY = 0x80
const MSR_TO_HOST = 0x40
const MSR_NO_DMA = 0x20
const MSR_BUSY = 0x10

/**
 * The main status register.
 *
 * @param isWrite the command's data comes from the host
 * @param position bytes of the command or its result that are through
 */
export function mainStatus(phase: Phase, isWrite: boolean, position: number): number {
  switch (phase) {
    case 'command':
      return MSR_READY | (position > 0 ? MSR_BUSY : 0)
    case 'execution':
      return MSR_BUSY
    case 'transfer':
      return MSR_READY | MSR_NO_DMA | MSR_BUSY | (isWrite ? 0 : MSR_TO_HOST)
    case 'result':
      return MSR_READY | MSR_TO_HOST | MSR_BUSY
  }
}

export interface FloppyState {
  dor: number
  tdr: number
  dsr: number
  status0: number
  config: number
  precompensation: number
  timers: number
  lock: number
  perpendicular: number
  interrupt: boolean
  senses: number
  phase: number
  /** Bytes of the command or its result: how many there are, and how many are through. */
  length: number
  position: number
  fifo: Uint8Array
  /** Data of a transfer without DMA. */
  dataLength: number
  dataPosition: number
  data: Uint8Array
  drives: FloppyDriveState[]
}

const STATE: {
  readonly [K in keyof Omit<FloppyState, 'drives'>]: (value: unknown) => FloppyState[K] | undefined
} = {
  dor: u8,
  tdr: u8,
  dsr: u8,
  status0: u8,
  config: u8,
  precompensation: u8,
  timers: int(0, 0xffff),
  lock: int(0, 1),
  perpendicular: u8,
  interrupt: flag,
  senses: int(0, RESET_SENSES),
  phase: int(0, PHASES.length - 1),
  length: int(0, FIFO_BYTES),
  position: int(0, FIFO_BYTES - 1),
  fifo: bytes(FIFO_BYTES),
  dataLength: int(0, DATA_BYTES),
  dataPosition: int(0, DATA_BYTES - 1),
  data: bytes(DATA_BYTES),
}

/** The fields of a saved state; throws `E_STATE` for one that no controller has. */
export function parseFloppyState(state: unknown): Omit<FloppyState, 'drives'> {
  const s = parseState<Omit<FloppyState, 'drives'>>('floppy', state, STATE)
  const phase = PHASES[s.phase]
  const isOver = phase === 'transfer' ? s.dataPosition >= s.dataLength : s.position >= s.length
  if (phase === 'execution' || !isOver || (phase === 'command' && s.length === 0)) return s
  throw new VmmError('E_STATE', 'the saved state of floppy is in the middle of nothing')
}
