// Files with random contents, of any size, that are never in memory as a whole.
import { createHash, randomBytes } from 'node:crypto'
import { closeSync, createReadStream, openSync, writeSync } from 'node:fs'
import { pipeline } from 'node:stream/promises'

const mebibyte = 1 << 20

/** Writes so many MiB that nobody has seen before, and returns their SHA-256. */
export function writeRandomFile(path: string, mebibytes: number): string {
  const hash = createHash('sha256')
  const fd = openSync(path, 'wx')
  try {
    for (let i = 0; i < mebibytes; i++) {
      const bytes = randomBytes(mebibyte)
      hash.update(bytes)
      for (let done = 0; done < mebibyte;) done += writeSync(fd, bytes, done)
    }
  } finally {
    closeSync(fd)
  }
  return hash.digest('hex')
}

/** The SHA-256 of a file. */
export async function fileSum(path: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return hash.digest('hex')
}
