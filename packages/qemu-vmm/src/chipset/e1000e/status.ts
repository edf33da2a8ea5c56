import type { RegisterFile } from '../e1000/register-map.ts'
import { CTRL, STATUS } from '../e1000/registers.ts'
import {
  CTRL_EXT,
  CTRL_EXT_SPEED_BYPASS,
  CTRL_FORCE_DUPLEX,
  CTRL_FORCE_SPEED,
  CTRL_FULL_DUPLEX,
  CTRL_MASTER_DISABLE,
  CTRL_SPEED,
  STATUS_MASTER,
} from './registers.ts'

const STATUS_FULL_DUPLEX = 0x01
const STATUS_SPEED_100 = 0x40
const STATUS_SPEED_1000 = 0x80
const CTRL_SPEED_100 = 0x100
/** What the MAC found out about the speed. */
const STATUS_ASDV_1000 = 0x0200

/** STATUS (Intel 82574 data sheet, 10.2.2.2): what the register holds, and what follows from CTRL. */
export function statusOf(registers: RegisterFile): number {
  const ctrl = registers[CTRL >> 2]!
  let status = registers[STATUS >> 2]! | STATUS_ASDV_1000
  if ((ctrl & CTRL_MASTER_DISABLE) === 0) status |= STATUS_MASTER
  const isDuplexForced = (ctrl & CTRL_FORCE_DUPLEX) !== 0
  if (!isDuplexForced || (ctrl & CTRL_FULL_DUPLEX) !== 0) status |= STATUS_FULL_DUPLEX
  return (status | speedOf(ctrl, registers[CTRL_EXT >> 2]!)) >>> 0
}

function speedOf(ctrl: number, extended: number): number {
  const isForced = (ctrl & CTRL_FORCE_SPEED) !== 0 || (extended & CTRL_EXT_SPEED_BYPASS) !== 0
  if (!isForced) return STATUS_SPEED_1000
  const speed = ctrl & CTRL_SPEED
  if (speed === 0) return 0
  return speed === CTRL_SPEED_100 ? STATUS_SPEED_100 : STATUS_SPEED_1000
}
