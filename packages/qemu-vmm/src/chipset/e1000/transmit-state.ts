import { bytes, flag, int, parseState, u32 } from '../../machine/state.ts'
import { VmmError } from '../../errors.ts'
import { type OffloadContext, loadContext } from './offload.ts'

/** What the transmitter is in the middle of. */
export interface TransmitState {
  /** Bytes of the descriptor at TDH that are still to be read; -1 when it has not been looked at. */
  left: number
  /** Where they are. */
  address: number
  /** Its third and fourth word. */
  command: number
  upper: number
  /** Bytes of the frame that are there. */
  size: number
  /** Segments of the packet that have been sent. */
  segments: number
  /** Checksums that the packet wants. */
  options: number
  /** It is cut into segments. */
  isCut: boolean
  /** It cannot be sent. */
  isBad: boolean
  /** The headers of all segments. */
  header: Uint8Array
  context: OffloadContext
  tsoContext: OffloadContext
}

export interface SavedTransmit extends TransmitState {
  /** The frame. */
  data: Uint8Array
  /** Records that the other end has not taken. */
  pending: Uint8Array
}

/** Checks the saved state of a card; `most` is its longest frame. Throws `E_STATE`. */
export function loadTransmit(device: string, saved: unknown, most: number): SavedTransmit {
  const { data, pending, header } = (saved ?? {}) as Partial<SavedTransmit>
  const length = (part: unknown): number => (part instanceof Uint8Array ? part.length : 0)
  const state = parseState<Omit<SavedTransmit, 'context' | 'tsoContext'>>(device, saved, {
    left: int(-1, 0xf_ffff),
    address: int(0, Number.MAX_SAFE_INTEGER),
    command: u32,
    upper: u32,
    size: int(0, most),
    segments: int(0, 0xf_ffff),
    options: int(0, 0xff),
    isCut: flag,
    isBad: flag,
    header: bytes(length(header)),
    data: bytes(length(data)),
    pending: bytes(length(pending)),
  })
  const { context, tsoContext } = saved as SavedTransmit
  const result = {
    ...state,
    context: loadContext(device, context),
    tsoContext: loadContext(device, tsoContext),
  }
  if (state.data.length !== state.size || state.header.length > 0xff) {
    throw new VmmError('E_STATE', `the saved state of ${device} has an impossible frame`, {
      fields: { device },
    })
  }
  return result
}
