import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { threadId } from 'node:worker_threads'

/**
 * Writes the code cache of a script, whole or not at all. V8 checks its length and its head, not its contents, so it is on
 * the disk before it has its name. That it cannot be written is no error: an installation need not be writable by who
 * uses it.
 */
export function keepCode(path: string, code: Uint8Array): void {
  // Machines of one process may come to it at the same time.
  const unfinished = `${path}.${process.pid}-${threadId}`
  try {
    mkdirSync(dirname(path), { recursive: true })
    const fd = openSync(unfinished, 'wx', 0o644)
    try {
      for (let done = 0; done < code.byteLength;) done += writeSync(fd, code, done)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(unfinished, path)
  } catch {
    removeIfThere(unfinished)
  }
}

function removeIfThere(path: string): void {
  try {
    rmSync(path, { force: true })
  } catch {
    // Its folder is none.
  }
}
