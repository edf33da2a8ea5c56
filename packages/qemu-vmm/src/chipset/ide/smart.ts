import { untold } from '../unknown-command.ts'
import type { UnknownCommand } from '../unknown-command.ts'
import { ERROR_ABRT } from './task-file.ts'
import type { TaskFile } from './task-file.ts'
import { answer } from './transfer.ts'
import { DONE } from './unit.ts'
import type { Outcome } from './unit.ts'

const ABORTED: Outcome = { kind: 'error', error: ERROR_ABRT }
const KEY_MID = 0x4f
const KEY_HIGH = 0xc2
const SECTOR = 512

/** Identifier, flags, value, worst, raw value, threshold. A disk in memory does not age. */
const ATTRIBUTES = [
  [1, 0x03, 100, 100, 0, 6],
  [3, 0x03, 100, 100, 16, 0],
  [4, 0x02, 100, 100, 100, 20],
  [5, 0x03, 100, 100, 0, 36],
  [9, 0x03, 100, 100, 1, 0],
  [12, 0x03, 100, 100, 0, 0],
  [190, 0x03, 69, 69, 31, 50],
] as const

/** SMART as a healthy disk has it (ATA/ATAPI-6, 8.41). */
export class Smart {
  enabled = true

  execute(file: TaskFile, unknown: UnknownCommand = untold): Outcome {
    if (file.mid !== KEY_MID || file.high !== KEY_HIGH) return ABORTED
    if (!this.enabled && file.feature !== 0xd8) return ABORTED
    switch (file.feature) {
      case 0xd0:
        return { kind: 'transfer', transfer: answer(values()) }
      case 0xd1:
        return { kind: 'transfer', transfer: answer(thresholds()) }
      case 0xd5:
        return log(file)
      // Attributes are saved always, and a self-test has ended as soon as it begins.
      case 0xd2:
      case 0xd3:
      case 0xd4:
        return DONE
      case 0xd8:
        this.enabled = true
        return DONE
      case 0xd9:
        this.enabled = false
        return DONE
      case 0xda:
        return DONE
      default:
        unknown('SMART function', file.feature)
        return ABORTED
    }
  }
}

function values(): Uint8Array {
  const data = new Uint8Array(SECTOR)
  data[0] = 1
  for (const [i, [id, flags, value, worst, raw]] of ATTRIBUTES.entries()) {
    data.set([id, flags, 0, value, worst, raw], 2 + 12 * i)
  }
  // Off-line collection has been completed; it takes two minutes, as a short self-test does.
  data[362] = 0x02
  data[364] = 120
  data[367] = 0x1b
  data[368] = 0x03
  data[370] = 0x01
  data[372] = 2
  data[373] = 54
  return checked(data)
}

function thresholds(): Uint8Array {
  const data = new Uint8Array(SECTOR)
  data[0] = 1
  for (const [i, [id, , , , , threshold]] of ATTRIBUTES.entries()) {
    data.set([id, threshold], 2 + 12 * i)
  }
  return checked(data)
}

/** The logs of errors and of self-tests, both empty. */
function log(file: TaskFile): Outcome {
  const data = new Uint8Array(SECTOR)
  switch (file.low) {
    case 0x01:
      data[0] = 1
      break
    case 0x06:
      data[0] = 1
      data[508] = 0
      break
    default:
      return ABORTED
  }
  return { kind: 'transfer', transfer: answer(checked(data)) }
}

/** The last byte makes the sum of all zero. */
function checked(data: Uint8Array): Uint8Array {
  let sum = 0
  for (const byte of data) sum += byte
  data[SECTOR - 1] = -sum & 0xff
  return data
}
