// Installs the dependencies with the pinned package manager, which needs no global installation.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { bin, root } from './lib/paths.mjs'
import { Failure, log, must } from './lib/run.mjs'
import { filesBelow, hashFiles, stampIs, writeStamp } from './lib/stamp.mjs'

const stamp = join(root, 'node_modules/.setup-stamp')

/** Makes node_modules match the lock file; does nothing when it already does. */
export async function setup() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new Failure(`Node.js 20.19 or newer is needed, this is ${process.versions.node}`)
  }
  const value = hashFiles(manifests())
  if (stampIs(stamp, value) && existsSync(bin('tsc'))) return
  const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  log(`installing dependencies with ${packageManager}`)
  // CI=true: without a terminal pnpm must not stop to ask whether it may replace node_modules.
  await must('npx', ['--yes', packageManager, 'install', '--frozen-lockfile'], {
    env: { CI: 'true' },
  })
  writeStamp(stamp, value)
}

/** What an installation depends on; the commands too, whose first lines say how they are started. */
function manifests() {
  const folders = ['packages', 'bench', 'e2e', 'examples'].map((name) => join(root, name))
  const top = ['package.json', 'pnpm-lock.yaml', 'pnpm-workspace.yaml']
  return [
    ...top.map((name) => join(root, name)),
    ...filesBelow(folders, (path) => /\/(package\.json|bin\/[^/]+\.c?js)$/.test(path)),
  ]
}
