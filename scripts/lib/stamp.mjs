// Content stamps: a step is skipped when the hash of what it reads is the one of its last success.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

const skipped = new Set(['node_modules', 'target', 'dist', '.cache', '.git'])

/**
 * All files below the given files and folders, sorted, without build output.
 * @param {readonly string[]} places
 * @param {(path: string) => boolean} [accept]
 * @returns {string[]}
 */
export function filesBelow(places, accept = () => true) {
  /** @type {string[]} */
  const found = []
  for (const place of places) {
    const kind = statSync(place, { throwIfNoEntry: false })
    if (kind?.isDirectory()) {
      const names = readdirSync(place).filter((name) => !skipped.has(name))
      found.push(
        ...filesBelow(
          names.map((name) => join(place, name)),
          accept,
        ),
      )
    } else if (kind?.isFile() && accept(place)) {
      found.push(place)
    }
  }
  return found.toSorted()
}

/** @param {readonly string[]} files @param {string} [salt] */
export function hashFiles(files, salt = '') {
  const hash = createHash('sha256').update(salt)
  for (const file of files) hash.update(file).update('\0').update(readFileSync(file)).update('\0')
  return hash.digest('hex')
}

/** @param {string} file @param {string} value */
export function stampIs(file, value) {
  try {
    return readFileSync(file, 'utf8') === value
  } catch {
    return false
  }
}

/** @param {string} file @param {string} value */
export function writeStamp(file, value) {
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, value)
}
