import type { GuestMemory } from 'kvm-core'

import type { Scattered } from './bus-master.ts'
import type { Transfer } from './transfer.ts'
import type { AtaUnit } from './unit.ts'

/** Every vCPU waits while bytes are read at once. */
const MOST_AT_ONCE = 128 * 1024

type Pieces = Pick<Scattered, 'pieces' | 'addresses'>

/** Between the bytes of an answer, or of what is received, and guest memory. */
export function copyScattered(
  memory: Pick<GuestMemory, 'markWritten'>,
  transfer: Transfer,
  scattered: Pieces,
): void {
  let at = 0
  for (const piece of scattered.pieces) {
    const end = at + piece.length
    if (transfer.direction === 'in') piece.set(transfer.data.subarray(at, end))
    else transfer.data.set(piece, at)
    at = end
  }
  if (transfer.direction === 'in') markAll(memory, scattered)
}

/** Reads from the medium at once, if that is possible without waiting. */
export function readScattered(
  memory: Pick<GuestMemory, 'markWritten'>,
  unit: AtaUnit,
  transfer: Transfer,
  scattered: Pieces,
): boolean {
  if (transfer.direction === 'out' || transfer.length > MOST_AT_ONCE) return false
  const done = unit.readNow(transfer.position, scattered.pieces)
  if (done) markAll(memory, scattered)
  return done
}

/** Between the medium and guest memory. */
export async function moveScattered(
  memory: Pick<GuestMemory, 'markWritten'>,
  unit: AtaUnit,
  transfer: Transfer,
  scattered: Pieces,
): Promise<void> {
  if (transfer.direction === 'in') {
    try {
      await unit.read(transfer.position, scattered.pieces)
    } finally {
      // A request that failed may have written some of it.
      markAll(memory, scattered)
    }
    return
  }
  await unit.write(transfer.position, scattered.pieces)
  if (transfer.flush) await unit.flush()
}

function markAll(memory: Pick<GuestMemory, 'markWritten'>, { pieces, addresses }: Pieces): void {
  for (const [i, piece] of pieces.entries()) memory.markWritten(addresses[i]!, piece.length)
}
