// A guest of one sector that says that it runs, and halts for ever.
import { Buffer } from 'node:buffer'
import { writeFileSync } from 'node:fs'

// prettier-ignore
const code = [
  0xba, 0xf8, 0x03, 0xb0, 0x7e, 0xee, //  mov dx, 0x3f8; mov al, '~'; out dx, al: the serial port
  0xfa, //                                cli
  0xf4, 0xeb, 0xfd, //                    again: hlt; jmp again
]

/** What it writes on the serial port. */
export const haltedMark = '~'

/** Writes a raw disk that boots it, which anybody may read. */
export function writeHaltedDisk(path: string): void {
  const disk = Buffer.alloc(1 << 20)
  Buffer.from(code).copy(disk)
  disk.writeUInt16LE(0xaa55, 510)
  writeFileSync(path, disk, { mode: 0o644 })
}
