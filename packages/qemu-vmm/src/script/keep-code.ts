import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** What was not finished in that time never will be: its process was killed. */
const ABANDONED_MS = 3_600_000
const UNFINISHED = /[.][0-9a-f-]{36}$/

/**
 * Writes the code cache of a script, whole or not at all. V8 checks its length and its head, not its contents, so it is on
 * the disk before it has its name. That it cannot be written is no error: an installation need not be writable by who
 * uses it. Guests run meanwhile: nothing here waits for the disk.
 */
export async function keepCode(path: string, code: Uint8Array): Promise<void> {
  // Machines of one process, or of several containers with one disk, may come to it at the same time.
  const unfinished = `${path}.${randomUUID()}`
  try {
    await mkdir(dirname(path), { recursive: true })
    await removeAbandoned(dirname(path), basename(path))
    const file = await open(unfinished, 'wx', 0o644)
    try {
      await file.writeFile(code)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(unfinished, path)
  } catch {
    await rm(unfinished, { force: true }).catch(() => {
      // Its folder is none.
    })
  }
}

async function removeAbandoned(folder: string, name: string): Promise<void> {
  for (const found of await readdir(folder)) {
    if (!found.startsWith(name) || !UNFINISHED.test(found)) continue
    const { mtimeMs } = await stat(join(folder, found))
    if (Date.now() - mtimeMs > ABANDONED_MS) await rm(join(folder, found), { force: true })
  }
}
