import { int, list, parseState, u32 } from '../../machine/state.ts'
import { negotiationField } from '../e1000/cable.ts'
import { checkRegisters } from '../e1000/state.ts'
import { REGISTER_BYTES } from '../e1000/registers.ts'
import { registerAt } from './registers.ts'

export interface E1000eState {
  /** Offsets and values of the registers that are not 0. */
  registers: number[]
  /** What the index port holds. */
  index: number
  nvm: unknown
  phy: unknown
  interrupts: unknown
  /** Of both queues. */
  transmit: unknown[]
  /** Nanoseconds until the cable has been negotiated; -1 when nobody waits. */
  negotiation: number
}

type OwnState = Pick<E1000eState, 'registers' | 'index' | 'negotiation'>

/** Checks what the card itself has of its state. Throws `E_STATE`. */
export function parseE1000e(state: unknown): OwnState {
  const saved = parseState<OwnState>('e1000e', state, {
    registers: list(u32, REGISTER_BYTES / 2),
    index: int(0, 0xffff_ffff),
    negotiation: negotiationField,
  })
  checkRegisters('e1000e', registerAt, saved.registers)
  return saved
}
