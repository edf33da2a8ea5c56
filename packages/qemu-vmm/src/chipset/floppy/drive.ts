import { int, parseState } from '../../machine/state.ts'
import type { MediaDevice } from '../../machine/block-backend.ts'
import type { Drive } from '../../machine/drive.ts'
import { VmmError } from '../../errors.ts'

export const SECTOR_BYTES = 512

/** Data rates as CCR and DSR have them. */
export const RATE_500K = 0
export const RATE_300K = 1
export const RATE_250K = 2
export const RATE_1M = 3

/** How a floppy disk is laid out. */
export interface FloppyFormat {
  readonly tracks: number
  readonly heads: number
  /** Sectors of a track. */
  readonly sectors: number
  readonly rate: number
  /** The least drive that reads it, as CMOS has it: 1 360K, 2 1.2M, 4 1.44M, 5 2.88M. */
  readonly type: number
}

const format = (
  tracks: number,
  heads: number,
  sectors: number,
  rate: number,
  type: number,
): FloppyFormat => ({ tracks, heads, sectors, rate, type })

/** What an empty drive is set to. */
const HIGH_DENSITY: FloppyFormat = format(80, 2, 18, RATE_500K, 4)
/** The usual formats; the size of an image says which it is. */
const FORMATS: readonly FloppyFormat[] = [
  HIGH_DENSITY,
  format(80, 2, 36, RATE_1M, 5),
  format(80, 2, 15, RATE_500K, 2),
  format(80, 2, 9, RATE_250K, 4),
  format(40, 2, 9, RATE_300K, 1),
  format(40, 2, 8, RATE_300K, 1),
  format(40, 1, 9, RATE_300K, 1),
  format(40, 1, 8, RATE_300K, 1),
  format(80, 2, 20, RATE_500K, 4),
  format(80, 2, 21, RATE_500K, 4),
  format(82, 2, 21, RATE_500K, 4),
  format(83, 2, 21, RATE_500K, 4),
  format(80, 2, 10, RATE_250K, 4),
]

function formatOf(sizeBytes: number): FloppyFormat | undefined {
  return FORMATS.find((known) => sizeOf(known) === sizeBytes)
}

function sizeOf({ tracks, heads, sectors }: FloppyFormat): number {
  return tracks * heads * sectors * SECTOR_BYTES
}

export interface FloppyDriveState {
  track: number
  head: number
  sector: number
  changed: number
}

/** A drive: where its heads are, and the disk in it. */
export class FloppyDrive implements MediaDevice {
  readonly hasTray = false
  readonly isTrayOpen = false
  readonly isLocked = false
  onTrayMoved: (open: boolean) => void = () => {}
  #medium: Drive | undefined
  #format: FloppyFormat = HIGH_DENSITY
  track = 0
  head = 0
  sector = 1
  /** The disk may be another one than at the last step. */
  changed = true

  /** Undefined for an empty drive. */
  get medium(): Drive | undefined {
    return this.#medium
  }

  /** Of the disk that is in, or was last. */
  get format(): FloppyFormat {
    return this.#format
  }

  /** Puts a disk in or takes it out. Throws `E_MEDIUM` for an image of a size that no disk has. */
  setMedium(medium: Drive | undefined): void {
    if (medium !== undefined) {
      const found = formatOf(medium.sizeBytes)
      if (found === undefined) throw noFloppy(medium.sizeBytes)
      this.#format = found
    }
    this.#medium = medium
    this.changed = true
  }

  /** There is no tray. */
  moveTray(): void {}

  /** A disk is not locked: it is taken out without asking. */
  requestEject(): void {}

  /** Status register 3, but for the number of the drive. An empty drive counts as protected. */
  get status(): number {
    const isProtected = (this.medium?.readOnly ?? true) ? 0x40 : 0
    return isProtected | (this.track === 0 ? 0x10 : 0) | (this.head << 2) | 0x28
  }

  /** Steps to a track, which need not be on the disk. */
  seek(track: number): void {
    if (track !== this.track && this.medium !== undefined) this.changed = false
    this.track = track
  }

  /** Byte of a sector on the disk; undefined where there is none. */
  offset(track: number, head: number, sector: number): number | undefined {
    const { tracks, heads, sectors } = this.format
    if (track >= tracks || head >= heads || sector < 1 || sector > sectors) return undefined
    return ((track * heads + head) * sectors + sector - 1) * SECTOR_BYTES
  }

  reset(): void {
    this.track = 0
    this.head = 0
    this.sector = 1
    this.changed = true
  }

  save(): FloppyDriveState {
    const { track, head, sector } = this
    return { track, head, sector, changed: this.changed ? 1 : 0 }
  }

  load(state: unknown): void {
    const byte = int(0, 255)
    const fields = { track: byte, head: int(0, 1), sector: byte, changed: int(0, 1) }
    const s = parseState<FloppyDriveState>('floppy', state, fields)
    this.track = s.track
    this.head = s.head
    this.sector = s.sector
    this.changed = s.changed === 1
  }
}

function noFloppy(sizeBytes: number): VmmError {
  const sizes = FORMATS.map((known) => `${sizeOf(known) / 1024}k`).join(', ')
  return new VmmError(
    'E_MEDIUM',
    `an image of ${sizeBytes} bytes is no floppy disk; there are ${sizes}`,
    { fields: { size: sizeBytes } },
  )
}
