// A disk with a FAT16 file system and files in its root, as UEFI firmware reads it.
const sectorBytes = 512
const sectorsPerCluster = 8
const clusterBytes = sectorsPerCluster * sectorBytes
const rootEntries = 512
const entryBytes = 32
const reservedSectors = 1
/** FAT16 has so many clusters at least. */
const leastClusters = 4200

/** A file of the disk; its name has at most 8 letters, and 3 behind a dot. */
export interface FatFile {
  readonly name: string
  readonly data: Uint8Array
}

/** The bytes of a disk without a partition table. */
export function fatDisk(files: readonly FatFile[]): Uint8Array {
  const used = files.reduce((sum, { data }) => sum + Math.ceil(data.length / clusterBytes), 0)
  const clusters = Math.max(leastClusters, used + 256)
  const fatSectors = Math.ceil(((clusters + 2) * 2) / sectorBytes)
  const rootAt = (reservedSectors + fatSectors) * sectorBytes
  const dataAt = rootAt + rootEntries * entryBytes
  const sectors = dataAt / sectorBytes + clusters * sectorsPerCluster
  const disk = new Uint8Array(sectors * sectorBytes)
  const view = new DataView(disk.buffer)
  bootSector(disk, view, fatSectors, sectors)
  const fatAt = reservedSectors * sectorBytes
  view.setUint16(fatAt, 0xfff8, true)
  view.setUint16(fatAt + 2, 0xffff, true)
  let next = 2
  for (const [i, { name, data }] of files.entries()) {
    const entry = rootAt + i * entryBytes
    disk.set(Buffer.from(shortName(name), 'latin1'), entry)
    disk[entry + 11] = 0x20
    view.setUint16(entry + 26, data.length === 0 ? 0 : next, true)
    view.setUint32(entry + 28, data.length, true)
    disk.set(data, dataAt + (next - 2) * clusterBytes)
    const count = Math.ceil(data.length / clusterBytes)
    for (let c = 0; c < count; c++) {
      view.setUint16(fatAt + (next + c) * 2, c + 1 < count ? next + c + 1 : 0xffff, true)
    }
    next += count
  }
  return disk
}

function bootSector(disk: Uint8Array, view: DataView, fatSectors: number, sectors: number): void {
  disk.set([0xeb, 0x3c, 0x90])
  disk.set(Buffer.from('MSDOS5.0', 'latin1'), 3)
  view.setUint16(11, sectorBytes, true)
  disk[13] = sectorsPerCluster
  view.setUint16(14, reservedSectors, true)
  disk[16] = 1
  view.setUint16(17, rootEntries, true)
  view.setUint16(19, sectors < 0x1_0000 ? sectors : 0, true)
  disk[21] = 0xf8
  view.setUint16(22, fatSectors, true)
  view.setUint16(24, 63, true)
  view.setUint16(26, 16, true)
  view.setUint32(32, sectors < 0x1_0000 ? 0 : sectors, true)
  disk.set([0x80, 0, 0x29, 1, 2, 3, 4], 36)
  disk.set(Buffer.from('GUEST      FAT16   ', 'latin1'), 43)
  disk.set([0x55, 0xaa], 510)
}

function shortName(name: string): string {
  const [base = '', extension = ''] = name.toUpperCase().split('.')
  return base.padEnd(8).slice(0, 8) + extension.padEnd(3).slice(0, 3)
}
