import { VmmError } from '../../errors.ts'
import { type Field, int, list, parseState, u32 } from '../../machine/state.ts'
import { REGISTER_BYTES, type RegisterFile, registerAt } from './registers.ts'

export interface E1000State {
  /** Offsets and values of the registers that are not 0. */
  registers: number[]
  /** What the index port holds. */
  index: number
  eeprom: unknown
  phy: unknown
  transmit: unknown
  /** Nanoseconds until the cable has been negotiated; -1 when nobody waits. */
  negotiation: number
}

/** Nanoseconds, or -1. */
const wait: Field<number> = (value) =>
  typeof value === 'number' && Number.isFinite(value) && (value >= 0 || value === -1)
    ? value
    : undefined

export function saveRegisters(registers: RegisterFile): number[] {
  const saved: number[] = []
  for (const [at, value] of registers.entries()) if (value !== 0) saved.push(4 * at, value)
  return saved
}

/** Checks what the card itself has of its state. Throws `E_STATE`. */
export function parseE1000(
  state: unknown,
): Pick<E1000State, 'registers' | 'index' | 'negotiation'> {
  const saved = parseState<Pick<E1000State, 'registers' | 'index' | 'negotiation'>>(
    'e1000',
    state,
    {
      registers: list(u32, REGISTER_BYTES / 2),
      index: int(0, REGISTER_BYTES - 1),
      negotiation: wait,
    },
  )
  for (let i = 0; i < saved.registers.length; i += 2) {
    const [offset, value] = [saved.registers[i]!, saved.registers[i + 1]]
    const kind = offset % 4 === 0 ? registerAt(offset) : undefined
    const { writable } = kind ?? { writable: 0 }
    const fits = writable === 0 || ((value ?? 0) & ~writable) === 0
    if (kind !== undefined && value !== undefined && fits) continue
    throw new VmmError('E_STATE', `the saved state of e1000 has ${value} for register ${offset}`, {
      fields: { device: 'e1000', offset },
    })
  }
  return saved
}

/** Takes what {@link saveRegisters} gave. */
export function loadRegisters(registers: RegisterFile, saved: readonly number[]): void {
  registers.fill(0)
  for (let i = 0; i < saved.length; i += 2) registers[saved[i]! >> 2] = saved[i + 1]!
}
