import { SECTOR_BYTES } from './drive.ts'
import type { FloppyDrive } from './drive.ts'

// Bits of the status registers (82078 data sheet, 6.2).
export const SR0_ABNORMAL = 0x40
export const SR0_INVALID = 0x80
export const SR0_READY_CHANGED = 0xc0
export const SR0_SEEK = 0x20
export const SR1_MISSING_MARK = 0x01
export const SR1_NOT_WRITABLE = 0x02
export const SR1_NO_DATA = 0x04
export const SR1_END_OF_CYLINDER = 0x80

/** The one size of sectors on PC disks: 128 << 2. */
export const SIZE_CODE = 2

export type Direction = 'read' | 'write' | 'verify'

/** Which sectors a command moves, and where the heads are afterwards. */
export interface Plan {
  /** Bytes on the disk where sectors are, in order. */
  readonly offsets: readonly number[]
  /** Where the next sector would be. */
  track: number
  head: number
  sector: number
}

/** What a command says of the sectors it wants. */
export interface SectorAddress {
  track: number
  head: number
  sector: number
  /** The last sector of a track. */
  lastSector: number
  /** Goes on with the second head. */
  multiTrack: boolean
}

/** A command that cannot be: the bits of the first two status registers. */
export interface Refusal {
  sr0: number
  sr1: number
}

/**
 * The sectors of a command that moves at most `bytes`.
 *
 * @param rate the data rate that is set
 */
export function planSectors(
  drive: FloppyDrive,
  address: SectorAddress,
  sizeCode: number,
  rate: number,
  bytes: number,
): Plan | Refusal {
  const { medium, format } = drive
  if (medium === undefined || rate !== format.rate) return refuse(SR1_MISSING_MARK)
  if (address.track >= format.tracks) return refuse(SR1_END_OF_CYLINDER)
  const first = drive.offset(address.track, address.head, address.sector)
  if (first === undefined || sizeCode !== SIZE_CODE) return refuse(SR1_NO_DATA)
  const offsets: number[] = []
  const plan = { offsets, track: address.track, head: address.head, sector: address.sector }
  const wanted = Math.ceil(bytes / SECTOR_BYTES)
  // No disk has more sectors in a cylinder than a sector number has values.
  while (offsets.length < wanted) {
    const at = drive.offset(plan.track, plan.head, plan.sector)
    if (at === undefined) return refuse(SR1_NO_DATA)
    offsets.push(at)
    if (!advance(plan, address, format.heads, format.sectors)) break
  }
  return plan
}

/** Moves to the next sector; false if the command ends before it. */
function advance(
  plan: Plan,
  { lastSector, multiTrack }: SectorAddress,
  heads: number,
  sectors: number,
): boolean {
  if (plan.sector < sectors && plan.sector !== lastSector) {
    plan.sector++
    return true
  }
  plan.sector = 1
  if (multiTrack && plan.head === 0 && heads > 1) {
    plan.head = 1
    return true
  }
  if (multiTrack) plan.head = 0
  plan.track++
  return false
}

function refuse(sr1: number): Refusal {
  return { sr0: SR0_ABNORMAL, sr1 }
}

/** Whether two commands differ only by what moves: the table of the 82078 (data sheet, 5.1). */
export interface CommandKind {
  /** These bits of the first byte. */
  mask: number
  value: number
  name: string
  /** Bytes behind the first. */
  parameters: number
}

const kind = (mask: number, value: number, parameters: number, name: string): CommandKind => ({
  mask,
  value,
  name,
  parameters,
})

export const COMMANDS: readonly CommandKind[] = [
  kind(0x1f, 0x06, 8, 'read'),
  kind(0x3f, 0x05, 8, 'write'),
  kind(0xff, 0x0f, 2, 'seek'),
  kind(0xff, 0x08, 0, 'sense interrupt'),
  kind(0xff, 0x07, 1, 'recalibrate'),
  kind(0xbf, 0x0d, 5, 'format'),
  kind(0xbf, 0x02, 8, 'read'),
  kind(0x1f, 0x0c, 8, 'read'),
  kind(0x1f, 0x16, 8, 'verify'),
  kind(0x3f, 0x09, 8, 'write'),
  kind(0xbf, 0x0a, 1, 'read id'),
  kind(0xff, 0x03, 2, 'specify'),
  kind(0xff, 0x04, 1, 'sense drive'),
  kind(0xff, 0x12, 1, 'perpendicular'),
  kind(0xff, 0x13, 3, 'configure'),
  kind(0xff, 0x17, 1, 'power down'),
  kind(0xff, 0x33, 1, 'option'),
  kind(0xff, 0x8f, 2, 'seek out'),
  kind(0xff, 0xcf, 2, 'seek in'),
  kind(0x7f, 0x14, 0, 'lock'),
  kind(0xff, 0x0e, 0, 'dump registers'),
  kind(0xff, 0x10, 0, 'version'),
  kind(0xff, 0x18, 0, 'part id'),
]

/** Commands whose second byte names the drive. */
export const HAS_DRIVE: ReadonlySet<string> = new Set([
  'read',
  'write',
  'verify',
  'format',
  'read id',
  'sense drive',
  'seek',
  'seek in',
  'seek out',
  'recalibrate',
])
