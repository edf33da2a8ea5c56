import { STATUS_DRQ } from '../ide/task-file.ts'
import type { TaskFile } from '../ide/task-file.ts'

/** Where a port receives which FIS (AHCI 1.3.1, 4.2.1). */
export const PIO_SETUP_AT = 0x20
export const DEVICE_REGISTERS_AT = 0x40

/** A device-to-host register FIS (Serial ATA 3, 10.5.6). */
export function deviceRegisters(file: TaskFile, interrupts: boolean): Uint8Array {
  return Uint8Array.of(
    ...[0x34, interrupts ? 0x40 : 0, file.status, file.error],
    ...[file.low, file.mid, file.high, file.device],
    ...[file.previousLow, file.previousMid, file.previousHigh, 0],
    ...[file.count, file.previousCount, 0, 0, 0, 0, 0, 0],
  )
}

/** A PIO setup FIS, from which a driver takes the status at the end of the transfer (10.5.11). */
export function pioSetup(file: TaskFile): Uint8Array {
  return Uint8Array.of(
    ...[0x5f, 0x60, file.status | STATUS_DRQ, file.error],
    ...[file.low, file.mid, file.high, file.device],
    ...[file.previousLow, file.previousMid, file.previousHigh, 0],
    ...[file.count, file.previousCount, 0, file.status, 0, 2, 0, 0],
  )
}
