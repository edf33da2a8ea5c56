import { lstatSync, readdirSync, statfsSync } from 'node:fs'
import type { Stats } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { stateFolderFault } from '../daemon/state-folder.ts'
import { parseDomain } from '../domain/index.ts'
import { bad, note, ok } from './finding.ts'
import type { Finding, Host } from './finding.ts'
import { text } from './kvm.ts'

const GIB = 2 ** 30
/** Definitions and logs need little; images grow. */
const LEAST_BYTES = 64 * 2 ** 20
const FEW_INODES = 1000

/** The state folder: whether it can be used, what is in it, and how much room there is. */
export function examineState(given: string, host: Host): Finding[] {
  const path = resolve(given)
  const fault = stateFolderFault(path)
  if (fault !== undefined) {
    return [bad('state folder', fault, `use another with --state, or mend that: ls -ld '${path}'`)]
  }
  const existing = nearest(path)
  const findings = [writable(path, existing, host)]
  findings.push(...space(existing))
  const broken = brokenDefinitions(path)
  if (broken.length > 0) {
    findings.push(
      note(
        'definitions',
        `${broken.length} cannot be read, and are ignored: ${broken.slice(0, 5).join('; ')}`,
        `mend them, or move them out of ${join(path, 'domains')}`,
      ),
    )
  }
  return findings
}

/** The path, or the nearest folder above it that is there. */
function nearest(path: string): string {
  for (let at = path; ; at = dirname(at)) {
    if (stats(at) !== undefined || at === dirname(at)) return at
  }
}

function stats(path: string): Stats | undefined {
  try {
    return lstatSync(path, { throwIfNoEntry: false })
  } catch {
    // A file where a folder should be, or one that must not be entered.
    return undefined
  }
}

function writable(path: string, existing: string, { uid, groups, user }: Host): Finding {
  const found = stats(existing)!
  const shift = uid === found.uid ? 6 : groups.includes(found.gid) ? 3 : 0
  if (uid !== 0 && ((found.mode >> shift) & 3) !== 3) {
    const mode = (found.mode & 0o777).toString(8)
    return bad(
      'state folder',
      `${user} may not write to '${existing}' (mode ${mode}, user ${found.uid})`,
      'choose a folder of your own with --state',
    )
  }
  return ok('state folder', existing === path ? `'${path}'` : `'${path}' will be made`)
}

function space(existing: string): Finding[] {
  const { bsize, bavail, files, ffree } = statfsSync(existing)
  const free = bavail * bsize
  const text = `${(free / GIB).toFixed(1)} GiB are free at '${existing}'`
  const remedy = `make room, for images above all: du -sh '${existing}'/*`
  const room =
    free < LEAST_BYTES
      ? bad('space', `${text}: definitions may not be saved`, remedy)
      : free < GIB
        ? note('space', `${text}: images that grow may fill it`, remedy)
        : ok('space', text)
  // Some file systems make them as they are needed, and tell of none.
  if (files === 0 || ffree >= FEW_INODES) return [room]
  return [room, note('inodes', `${ffree} more files fit`, 'remove small files that nobody needs')]
}

function brokenDefinitions(path: string): string[] {
  const folder = join(path, 'domains')
  let names: string[]
  try {
    names = readdirSync(folder).filter((name) => name.endsWith('.xml'))
  } catch {
    return []
  }
  return names.flatMap((name) => {
    try {
      parseDomain(text(join(folder, name)))
      return []
    } catch (error) {
      return [`${name} (${(error as Error).message})`]
    }
  })
}
