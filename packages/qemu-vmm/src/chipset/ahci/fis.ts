import { STATUS_DRQ } from '../ide/task-file.ts'
import type { TaskFile } from '../ide/task-file.ts'

/** Where a port receives which FIS (AHCI 1.3.1, 4.2.1). */
export const PIO_SETUP_AT = 0x20
export const DEVICE_REGISTERS_AT = 0x40

/** A device-to-host register FIS (Serial ATA 3, 10.5.6). */
export function deviceRegisters(file: TaskFile, interrupts: boolean): Uint8Array {
  return registers(file, 0x34, interrupts ? 0x40 : 0, file.status)
}

/** A PIO setup FIS, from which a driver takes the status at the end of the transfer (10.5.11). */
export function pioSetup(file: TaskFile): Uint8Array {
  const fis = registers(file, 0x5f, 0x60, file.status | STATUS_DRQ)
  fis[15] = file.status
  // Bytes of the last block.
  fis[17] = 2
  return fis
}

function registers(file: TaskFile, type: number, flags: number, status: number): Uint8Array {
  const fis = new Uint8Array(20)
  fis.set([type, flags, status, file.error])
  fis.set([file.low, file.mid, file.high, file.device], 4)
  fis.set([file.previousLow, file.previousMid, file.previousHigh], 8)
  fis.set([file.count, file.previousCount], 12)
  return fis
}
