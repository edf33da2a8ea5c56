import { VmmError } from '../../errors.ts'
import type { NativeUserNet, NativeUserState } from '../../native/usernet.ts'
import { list, parseState, text, u32 } from '../../machine/state.ts'

/** Addresses that DHCP gives, and connections that there can be: the addon refuses more. */
const MAX_LEASES = 16
const MAX_CONNECTIONS = 16_384

/** Of a network that has not begun, or is gone. */
export const NO_USER_STATE: NativeUserState = { leases: [], connections: [] }

/**
 * The state of the network `id`, if it is one; undefined is that of a network that was not there.
 * @throws VmmError E_STATE
 */
export function checkUserState(id: string, state: unknown = NO_USER_STATE): NativeUserState {
  const owner = `the network ${id}`
  return parseState<NativeUserState>(owner, state, {
    leases: list(text, MAX_LEASES),
    connections: list(
      (connection) =>
        parseState<NativeUserState['connections'][number]>(owner, connection, {
          guest: text,
          peer: text,
          card: text,
          sequence: u32,
        }),
      MAX_CONNECTIONS,
    ),
  })
}

/**
 * Loads it.
 * @throws VmmError E_STATE, and nothing is changed then
 */
export function loadUserState(id: string, net: NativeUserNet, state: unknown): void {
  const checked = checkUserState(id, state)
  try {
    net.load(checked)
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error)
    throw new VmmError('E_STATE', `the saved state of the network ${id} is none: ${reason}`, {
      fields: { device: id },
      cause: error,
    })
  }
}
