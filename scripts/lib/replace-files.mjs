import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

/**
 * Makes `files` the files of a folder; its folders stay. What did not change is not written.
 * @param {string} folder
 * @param {readonly { path: string, contents: Uint8Array }[]} files
 */
export function replaceFiles(folder, files) {
  mkdirSync(folder, { recursive: true })
  for (const { path, contents } of files) {
    if (!existsSync(path) || !readFileSync(path).equals(contents)) writeFileSync(path, contents)
  }
  // Last, so that a command that is running finds what it has not loaded yet, if that did not change.
  const current = new Set(files.map(({ path }) => basename(path)))
  for (const old of readdirSync(folder, { withFileTypes: true })) {
    if (old.isFile() && !current.has(old.name)) rmSync(join(folder, old.name))
  }
}
