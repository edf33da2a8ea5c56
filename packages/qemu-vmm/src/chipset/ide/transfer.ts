import { VmmError } from '../../errors.ts'
import { flag, int, parseState } from '../../machine/state.ts'

/** The most that one command moves: 65536 sectors, or as much of a CD. */
export const MAX_TRANSFER_BYTES: number = 65_536 * 2048
/** The most that a device holds between its medium and the data port. */
export const MAX_BLOCK_BYTES = 131_072

/** The data phase of a command. Plain data, so that it can be saved half-way. */
export interface Transfer {
  /** Where the bytes are or go: on the medium, or in `data` as a whole. */
  readonly source: 'medium' | 'data'
  readonly direction: 'in' | 'out'
  readonly dma: boolean
  /** Belongs to a packet command, whose phases show in the count register. */
  readonly packet: boolean
  /** Byte on the medium where it begins. */
  readonly position: number
  /** Bytes of the whole. */
  readonly length: number
  /** Through the data port: bytes between medium and `data` at a time. */
  readonly loadBytes: number
  /** Through the data port: bytes that are asked for or offered at a time. */
  readonly drqBytes: number
  /** Written bytes must be on stable storage at the end. */
  readonly flush: boolean
  /** Bytes that are through. */
  done: number
  data: Uint8Array
}

/** A transfer that begins; what is not given is as plain as can be. */
export function transfer(
  parts: Pick<Transfer, 'source' | 'direction' | 'length'> & Partial<Transfer>,
): Transfer {
  return {
    dma: false,
    packet: false,
    position: 0,
    loadBytes: parts.length,
    drqBytes: parts.length,
    flush: false,
    done: 0,
    data: new Uint8Array(0),
    ...parts,
  }
}

/** The bytes of an answer, which the device has at once. */
export function answer(data: Uint8Array, parts: Partial<Transfer> = {}): Transfer {
  return transfer({ source: 'data', direction: 'in', length: data.length, data, ...parts })
}

/** Reads a saved transfer; throws `E_STATE` for one that no command begins. */
export function loadTransfer(state: unknown): Transfer {
  const length = int(1, MAX_TRANSFER_BYTES)
  const word =
    <T extends string>(...words: T[]) =>
    (value: unknown) =>
      words.find((known) => known === value)
  const result = parseState<Transfer>('ide', state, {
    source: word('medium', 'data'),
    direction: word('in', 'out'),
    dma: flag,
    packet: flag,
    position: int(0, Number.MAX_SAFE_INTEGER),
    length,
    loadBytes: length,
    drqBytes: length,
    flush: flag,
    done: int(0, MAX_TRANSFER_BYTES),
    data: (value) =>
      value instanceof Uint8Array && value.length <= MAX_BLOCK_BYTES ? value.slice() : undefined,
  })
  const { source, data, done } = result
  const isWhole = source === 'medium' || data.length === result.length
  if (done < result.length && isWhole && result.drqBytes <= result.loadBytes) return result
  throw new VmmError('E_STATE', `the saved state of ide has a transfer that cannot be`, {
    fields: { length: result.length, done },
  })
}
