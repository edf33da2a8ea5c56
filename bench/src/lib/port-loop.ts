// A guest of a few bytes that reads a port in a loop, as a multiboot-1 image that both commands boot.
import { Buffer } from 'node:buffer'

/** Reads between two marks, which are tildes on the serial port. */
export const readsPerMark = 20_000

const loadAddress = 0x10_0000
/** Index 0x71 of the RTC: a device register, in C there and in TypeScript here. */
const port = 0x71

const code = [
  // mark: wait for the transmitter of COM1, then send the mark.
  [0x66, 0xba, 0xfd, 0x03], //          mov dx, 0x3fd
  [0xec, 0xa8, 0x20, 0x74, 0xfb], //    wait: in al, dx; test al, 0x20; jz wait
  [0x66, 0xba, 0xf8, 0x03], //          mov dx, 0x3f8
  [0xb0, 0x7e, 0xee], //                mov al, '~'; out dx, al
  [0xb9, ...word(readsPerMark)], //     mov ecx, readsPerMark
  [0xe4, port, 0x49, 0x75, 0xfb], //    again: in al, port; dec ecx; jnz again
  [0xeb, 0xe4], //                      jmp mark
].flat()

function word(value: number): number[] {
  return [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24]
}

/** The image: a multiboot-1 header with its own load addresses, then the code. */
export function portLoopImage(): Buffer {
  const magic = 0x1bad_b002
  const flags = 1 << 16
  const headerBytes = 32
  const end = loadAddress + headerBytes + code.length
  const entry = loadAddress + headerBytes
  const fields = [magic, flags, -(magic + flags), loadAddress, loadAddress, end, end, entry]
  return Buffer.from([...fields.flatMap((field) => word(field | 0)), ...code])
}
