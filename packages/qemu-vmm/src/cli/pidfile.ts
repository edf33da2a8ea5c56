import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { CliError } from './cli-error.ts'
import { systemMessage } from './system-error.ts'

/**
 * Writes the process id to a file, whole or not at all, and removes the file when the process
 * ends.
 *
 * @returns removes the file; may be called more than once
 */
export function writePidFile(path: string): () => void {
  const text = `${process.pid}\n`
  const temporary = `${path}.${process.pid}.tmp`
  try {
    writeFileSync(temporary, text, { mode: 0o644, flag: 'wx' })
    renameSync(temporary, path)
  } catch (error) {
    rmSync(temporary, { force: true })
    throw new CliError(
      `cannot create PID file: Could not create '${path}': ${systemMessage(error)}`,
    )
  }
  const remove = (): void => {
    process.off('exit', remove)
    try {
      // Another process may have put its own file here since.
      if (readFileSync(path, 'utf8') === text) rmSync(path)
    } catch {
      // It is gone already, or no longer ours to remove.
    }
  }
  process.on('exit', remove)
  return remove
}
