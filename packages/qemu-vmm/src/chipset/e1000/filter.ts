import { type RegisterFile } from './register-map.ts'
import { MTA, RA, RAH_AV, RCTL, RECEIVE_ADDRESSES, VET, VFTA } from './registers.ts'

/** RCTL (Intel 8254x manual, 13.4.22). */
const RCTL_UPE = 0x08
const RCTL_MPE = 0x10
const RCTL_BAM = 0x8000
const RCTL_VFE = 0x0004_0000
/** Which bits of an address choose one of the multicast table, by RCTL.MO. */
const TABLE_SHIFTS = [4, 3, 2, 0] as const

/** Whether the guest wants the frame at `at`, of at least 18 bytes (Intel 8254x manual, 3.2.1 and 9.3). */
export function passesFilter(registers: RegisterFile, frame: Uint8Array, at: number): boolean {
  const rctl = registers[RCTL >> 2]!
  if ((rctl & RCTL_VFE) !== 0) {
    const type = (frame[at + 12]! << 8) | frame[at + 13]!
    const isTagged = type === (registers[VET >> 2]! & 0xffff)
    const vlan = ((frame[at + 14]! & 0x0f) << 8) | frame[at + 15]!
    if (isTagged && !hasBit(registers, VFTA, vlan)) return false
  }
  if ((frame[at]! & 1) === 0) {
    if ((rctl & RCTL_UPE) !== 0) return true
  } else if (isBroadcast(frame, at)) {
    if ((rctl & RCTL_BAM) !== 0) return true
  } else if ((rctl & RCTL_MPE) !== 0) return true
  return isAddressed(registers, frame, at) || isInTable(registers, frame, at)
}

/** One of the addresses that count in full. */
function isAddressed(registers: RegisterFile, frame: Uint8Array, at: number): boolean {
  const low =
    (frame[at]! | (frame[at + 1]! << 8) | (frame[at + 2]! << 16) | (frame[at + 3]! << 24)) >>> 0
  const high = frame[at + 4]! | (frame[at + 5]! << 8)
  for (let i = 0; i < RECEIVE_ADDRESSES; i++) {
    const address = (RA >> 2) + 2 * i
    const rah = registers[address + 1]!
    if ((rah & RAH_AV) !== 0 && registers[address] === low && (rah & 0xffff) === high) return true
  }
  return false
}

/** The table of 4096 bits, which 12 bits of the address choose from. */
function isInTable(registers: RegisterFile, frame: Uint8Array, at: number): boolean {
  const shift = TABLE_SHIFTS[(registers[RCTL >> 2]! >>> 12) & 3]!
  const hash = (((frame[at + 5]! << 8) | frame[at + 4]!) >> shift) & 0xfff
  return hasBit(registers, MTA, hash)
}

function hasBit(registers: RegisterFile, table: number, bit: number): boolean {
  return (registers[(table >> 2) + (bit >> 5)]! & (1 << (bit & 31))) !== 0
}

function isBroadcast(frame: Uint8Array, at: number): boolean {
  for (let i = 0; i < 6; i++) if (frame[at + i] !== 0xff) return false
  return true
}
