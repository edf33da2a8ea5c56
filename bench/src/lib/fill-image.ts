// Raw images of disks that have something to read.
import { closeSync, openSync, writeSync } from 'node:fs'

/** Makes an image of which every sector differs, so that no format stores less. */
export function fillImage(path: string, mib: number): void {
  const file = openSync(path, 'wx')
  const chunk = new Uint32Array(1 << 18)
  for (let at = 0; at < mib; at++) {
    for (let i = 0; i < chunk.length; i++) chunk[i] = Math.imul(at * chunk.length + i, 0x9e37_79b1)
    writeSync(file, chunk)
  }
  closeSync(file)
}
