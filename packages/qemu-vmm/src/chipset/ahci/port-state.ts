import { flag, parseState, u32 } from '../../machine/state.ts'

export interface AhciPortState {
  clb: number
  clbu: number
  fb: number
  fbu: number
  is: number
  ie: number
  cmd: number
  sctl: number
  serr: number
  ci: number
  halted: boolean
  resetting: boolean
}

/** Checks a saved port. Throws `E_STATE`. */
export function parsePort(state: unknown): AhciPortState {
  return parseState<AhciPortState>('ahci', state, {
    clb: u32,
    clbu: u32,
    fb: u32,
    fbu: u32,
    is: u32,
    ie: u32,
    cmd: u32,
    sctl: u32,
    serr: u32,
    ci: u32,
    halted: flag,
    resetting: flag,
  })
}
