import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'

/**
 * Replaces a file, whole or not at all, also when the host loses power: it is written under another name first. When this
 * returns, the new content is on disk. Throws the system's error, with the old file as it was.
 */
export function writeDurably(path: string, text: string): void {
  writeBeside(path, text, true)
  syncFolder(dirname(path))
}

/** The same for what need not survive the host, only this process. */
export function writeWhole(path: string, text: string): void {
  writeBeside(path, text, false)
}

function writeBeside(path: string, text: string, sync: boolean): void {
  const temporary = `${path}.new`
  // A leftover of a process that was killed, or somebody's link: neither is followed.
  rmSync(temporary, { force: true })
  const file = openSync(temporary, 'wx', 0o600)
  try {
    const bytes = Buffer.from(text)
    for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at)
    if (sync) fsyncSync(file)
  } catch (error) {
    closeSync(file)
    rmSync(temporary, { force: true })
    throw error
  }
  closeSync(file)
  renameSync(temporary, path)
}

/** Removes a file for good. It need not be there. */
export function removeDurably(path: string): void {
  rmSync(path, { force: true })
  syncFolder(dirname(path))
}

function syncFolder(path: string): void {
  const folder = openSync(path, 'r')
  try {
    fsyncSync(folder)
  } finally {
    closeSync(folder)
  }
}
