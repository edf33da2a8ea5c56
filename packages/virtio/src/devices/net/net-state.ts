import { VirtioError } from '../../errors.ts'
import { DEFAULT_BATCH_BYTES } from '../../net/frame-batch.ts'
import { bytes, flag, int, opaque, parseState, word64 } from '../../state.ts'
import type { NetFilterState } from './rx-filter.ts'

export interface NetState {
  filter: NetFilterState
  pairs: number
  announce: boolean
  /** `VIRTIO_NET_F_GUEST_…` bits that are on. */
  guestOffloads: bigint
  /** Records of frames that the other end has not taken. */
  pending: Uint8Array
}

/** Throws `E_STATE` for a state that a card with `maxPairs` of queues and the negotiated `offloads` cannot have saved. */
export function parseNetState(
  name: string,
  state: unknown,
  maxPairs: number,
  offloads: bigint,
): NetState {
  const s = parseState<NetState>(name, state, {
    filter: opaque as never,
    pairs: int(1, maxPairs),
    announce: flag,
    guestOffloads: word64,
    pending: bytes(DEFAULT_BATCH_BYTES),
  })
  if (s.guestOffloads & ~offloads) {
    throw new VirtioError('E_STATE', `the saved ${name} has offloads that were not negotiated`)
  }
  return s
}
