import { VIRTQUEUE_MAX_SIZE } from '../constants.ts'
import { flag, int, list, parseState } from '../state.ts'

/** Registers and positions of a queue. */
export interface VirtqueueState {
  size: number
  ready: boolean
  halted: boolean
  /** Low and high words of the three addresses. */
  address: number[]
  lastAvail: number
  usedIdx: number
  signalled: number
  /** Heads of chains that were popped and not pushed. */
  inFlight: number[]
}

const word16 = int(0, 0xffff)

/** Throws `E_STATE`; sizes and addresses are judged where they are used. */
export function parseQueueState(index: number, state: unknown): VirtqueueState {
  return parseState<VirtqueueState>(`queue ${index}`, state, {
    size: word16,
    ready: flag,
    halted: flag,
    address: list(int(0, 0xffff_ffff), 6, 6),
    lastAvail: word16,
    usedIdx: word16,
    signalled: word16,
    inFlight: list(word16, 0, VIRTQUEUE_MAX_SIZE),
  })
}
