import { VmmError } from '../../errors.ts'
import { int, list, parseState, u32 } from '../../machine/state.ts'
import { negotiationField } from './cable.ts'
import type { RegisterFile, Span } from './register-map.ts'
import { REGISTER_BYTES, registerAt } from './registers.ts'

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
      negotiation: negotiationField,
    },
  )
  checkRegisters('e1000', registerAt, saved.registers)
  return saved
}

/** Checks offsets and values of registers. Throws `E_STATE`. */
export function checkRegisters(
  device: string,
  kindOf: (offset: number) => Span | undefined,
  registers: readonly number[],
): void {
  for (let i = 0; i < registers.length; i += 2) {
    const [offset, value] = [registers[i]!, registers[i + 1]]
    const kind = offset % 4 === 0 ? kindOf(offset) : undefined
    const { writable } = kind ?? { writable: 0 }
    const fits = writable === 0 || ((value ?? 0) & ~writable) === 0
    if (kind !== undefined && value !== undefined && fits) continue
    throw new VmmError(
      'E_STATE',
      `the saved state of ${device} has ${value} for register ${offset}`,
      {
        fields: { device, offset },
      },
    )
  }
}

/** Takes what {@link saveRegisters} gave. */
export function loadRegisters(registers: RegisterFile, saved: readonly number[]): void {
  registers.fill(0)
  for (let i = 0; i < saved.length; i += 2) registers[saved[i]! >> 2] = saved[i + 1]!
}
