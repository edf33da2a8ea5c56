import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

const SECTOR = 512

/**
 * A disk whose boot sector takes up CPU hot-plug of `pc`, and lets go of each processor that it is asked for: at
 * each tick it looks for one with an event (0xaf05), and clears the event, or ejects (0xaf04).
 */
export function cpuDisk(folder: string): string {
  const code = [
    186, 0, 175, 102, 49, 192, 102, 239, 251, 244, 186, 5, 175, 176, 0, 238, 186, 4, 175, 236, 168,
    4, 116, 8, 176, 4, 238, 176, 8, 238, 235, 232, 168, 2, 116, 228, 176, 2, 238, 235, 223,
  ]
  const disk = Buffer.alloc(SECTOR * 2048)
  disk.set(code)
  disk.set([0x55, 0xaa], SECTOR - 2)
  const file = join(folder, 'cpus.img')
  writeFileSync(file, disk)
  return file
}
