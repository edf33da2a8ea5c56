import type { Geometry } from './geometry.ts'

/** What IDENTIFY tells beside what all devices have. */
export interface Identity {
  model: string
  serial: string
  /** Firmware revision. */
  version: string
}

/** What drivers have chosen with SET FEATURES. */
export interface TransferModes {
  /** Numbers of the modes, or undefined. */
  multiword?: number
  ultra?: number
}

/** What firmware would have chosen. */
export const POWER_ON_MODES: TransferModes = { ultra: 5 }

/** What a disk tells of itself. */
export interface DiskIdentity extends Identity {
  sectors: number
  geometry: Geometry
  /** What INITIALIZE DEVICE PARAMETERS has set. */
  current: Geometry
  multiple: number
  writeCache: boolean
  smart: boolean
  trim: boolean
  /** log2 of logical sectors in a physical one. */
  physicalExponent: number
  rotationRate: number
  wwn: bigint
  modes: TransferModes
}

/** Sectors that READ MULTIPLE moves at once at most. */
export const MAX_MULTIPLE = 16
const LBA28_SECTORS = 0x0fff_ffff
const WORDS = 256

/** A sector of little-endian words that texts are put into with their bytes swapped. */
class Words {
  readonly bytes: Uint8Array = new Uint8Array(WORDS * 2)
  readonly #view: DataView = new DataView(this.bytes.buffer)

  set(word: number, ...values: number[]): void {
    for (const [i, value] of values.entries()) this.#view.setUint16((word + i) * 2, value, true)
  }

  text(word: number, length: number, text: string): void {
    const padded = text.slice(0, length).padEnd(length)
    for (let i = 0; i < length; i++) this.bytes[word * 2 + (i ^ 1)] = padded.charCodeAt(i) & 0x7f
  }

  number(word: number, words: number, value: number): void {
    for (let i = 0; i < words; i++) this.set(word + i, Math.floor(value / 2 ** (16 * i)) % 0x1_0000)
  }
}

function identify(words: Words, { serial, version, model }: Identity): void {
  words.text(10, 20, serial)
  words.set(20, 3, 512, 4)
  words.text(23, 8, version)
  words.text(27, 40, model)
  words.set(48, 1)
}

/** Which multiword and Ultra DMA modes there are, and which is chosen. */
function modes(words: Words, { multiword, ultra }: TransferModes): void {
  words.set(62, 0x07)
  words.set(63, 0x07 | (multiword === undefined ? 0 : 0x100 << multiword))
  words.set(88, 0x3f | (ultra === undefined ? 0 : 0x100 << ultra))
}

/** The answer to IDENTIFY DEVICE (ATA/ATAPI-6, 8.15), with what QEMU's disks say. */
export function identifyDisk(disk: DiskIdentity): Uint8Array {
  const words = new Words()
  const { geometry, current, sectors } = disk
  words.set(0, 0x0040, geometry.cylinders, 0, geometry.heads, 512 * geometry.sectors, 512)
  words.set(6, geometry.sectors)
  identify(words, disk)
  words.set(47, 0x8000 | MAX_MULTIPLE)
  // DMA, LBA and IORDY.
  words.set(49, 0x0b00)
  words.set(51, 0x200, 0x200, 0x07, current.cylinders, current.heads, current.sectors)
  words.number(57, 2, current.cylinders * current.heads * current.sectors)
  if (disk.multiple > 0) words.set(59, 0x100 | disk.multiple)
  words.number(60, 2, Math.min(sectors, LBA28_SECTORS))
  words.set(64, 0x03, 120, 120, 120, 120)
  if (disk.trim) words.set(69, 0x4000)
  words.set(80, 0xf0, 0x16)
  const wwn = disk.wwn === 0n ? 0 : 0x100
  const cache = disk.writeCache ? 0x20 : 0
  words.set(82, 0x4021, 0x7400, 0x4000 | wwn)
  words.set(85, 0x4000 | cache | (disk.smart ? 1 : 0), 0x3400, 0x4000 | wwn)
  modes(words, disk.modes)
  words.set(93, 0x6001)
  words.number(100, 4, sectors)
  words.set(106, 0x6000 | disk.physicalExponent)
  for (let i = 0; i < 4; i++)
    words.set(108 + i, Number((disk.wwn >> BigInt(48 - 16 * i)) & 0xffffn))
  if (disk.trim) words.set(169, 1)
  words.set(217, disk.rotationRate)
  return words.bytes
}

/** The answer to IDENTIFY PACKET DEVICE (ATA/ATAPI-6, 8.16), with what QEMU's drives say. */
export function identifyPacketDevice(identity: Identity & { modes: TransferModes }): Uint8Array {
  const words = new Words()
  // A removable CD drive that asks for its packet, of 12 bytes, within 50 us.
  words.set(0, 0x85c0)
  identify(words, identity)
  words.set(49, 0x0300)
  words.set(53, 0x07)
  words.set(64, 0x03, 0xb4, 0xb4, 0x12c, 0xb4)
  words.set(71, 30, 30)
  words.set(80, 0x1e)
  modes(words, identity.modes)
  return words.bytes
}
