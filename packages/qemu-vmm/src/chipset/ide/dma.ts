import type { Scattered } from './bus-master.ts'
import type { Transfer } from './transfer.ts'
import type { AtaUnit } from './unit.ts'

/** Between the bytes of an answer, or of what is received, and guest memory. */
export function copyScattered(transfer: Transfer, { pieces }: Pick<Scattered, 'pieces'>): void {
  let at = 0
  for (const piece of pieces) {
    const end = at + piece.length
    if (transfer.direction === 'in') piece.set(transfer.data.subarray(at, end))
    else transfer.data.set(piece, at)
    at = end
  }
}

/** Between the medium and guest memory. */
export async function moveScattered(
  unit: AtaUnit,
  transfer: Transfer,
  { pieces }: Pick<Scattered, 'pieces'>,
): Promise<void> {
  if (transfer.direction === 'in') {
    await unit.read(transfer.position, pieces)
    return
  }
  await unit.write(transfer.position, pieces)
  if (transfer.flush) await unit.flush()
}
