import {
  close,
  closeSync,
  constants,
  existsSync,
  fsync,
  fsyncSync,
  open,
  openSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { dirname } from 'node:path'

/** How long changes wait for each other until they are synced to disk together. */
const SYNC_MS = 200

/**
 * Replaces a file, whole or not at all. When this returns, the new content outlives this process, however it ends.
 *
 * A loss of power takes no more than the changes of the last moment: what replaces a file is on disk before it does, so that
 * one of both is always there; a new file and its name are synced soon after, together with others, because waiting for
 * each would double what many definitions cost. (libvirt syncs each file, and leaves names to the system's 5 s.) Throws the
 * system's error, with the old file as it was.
 *
 * @param isNew whether there is no such file yet; to look costs a tenth of the rest
 */
export function writeDurably(path: string, text: string, isNew = !existsSync(path)): void {
  writeBeside(path, text, !isNew)
  if (isNew) syncSoon(path)
  syncSoon(dirname(path))
}

/** The same for what need not survive the host, only this process. */
export function writeWhole(path: string, text: string): void {
  writeBeside(path, text, false)
}

function writeBeside(path: string, text: string, sync: boolean): void {
  const temporary = `${path}.new`
  const file = openNew(temporary)
  try {
    try {
      const bytes = Buffer.from(text)
      for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at)
      if (sync) fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw error
  }
}

function openNew(path: string): number {
  try {
    return openSync(path, 'wx', 0o600)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    // A leftover of a process that was killed, or somebody's link: neither is followed.
    rmSync(path, { force: true })
    return openSync(path, 'wx', 0o600)
  }
}

/** Removes a file for good, as {@link writeDurably} replaces one. It need not be there. */
export function removeDurably(path: string): void {
  rmSync(path, { force: true })
  syncSoon(dirname(path))
}

/** Files and folders that are to be synced. */
const changed = new Set<string>()
let timer: NodeJS.Timeout | undefined
let running: Promise<void> = Promise.resolve()

function syncSoon(path: string): void {
  // A folder comes behind what is in it.
  changed.delete(path)
  changed.add(path)
  timer ??= setTimeout(() => void allSynced(), SYNC_MS).unref()
}

/** Resolves when all changes so far are on disk. */
export function allSynced(): Promise<void> {
  clearTimeout(timer)
  timer = undefined
  running = syncAfter(running)
  return running
}

async function syncAfter(before: Promise<void>): Promise<void> {
  await before
  const paths = [...changed]
  changed.clear()
  // One by one: the first one takes most of the others along, and threads are needed for other work.
  await new Promise<void>((resolve) => syncEach(paths.values(), resolve))
}

/** With callbacks, since clients are served meanwhile: promises would cost a definition a twentieth of its time. */
function syncEach(paths: Iterator<string, undefined>, done: () => void): void {
  const { value: path } = paths.next()
  if (path === undefined) return done()
  const next = (): void => syncEach(paths, done)
  open(path, constants.O_RDONLY | constants.O_NOFOLLOW, (error, file) => {
    // What has been removed since has nothing to keep, and a disk that fails refuses the next file.
    if (error !== null) next()
    else fsync(file, () => close(file, next))
  })
}
