// Files stay readable: at most 400 lines of TypeScript, 600 of Rust, 20 KB of anything that is not generated.
import { readFileSync } from 'node:fs'
import { basename, extname, relative } from 'node:path'
import { filesBelow } from '../lib/stamp.mjs'

const mostLines = new Map([
  ['.ts', 400],
  ['.mjs', 400],
  ['.js', 400],
  ['.rs', 600],
])
const mostBytes = 20 * 1024
const lockFiles = new Set(['pnpm-lock.yaml', 'Cargo.lock'])
const checked = new Set([...mostLines.keys(), '.md', '.json', '.toml', '.sh', '.S'])

/**
 * @param {string} root
 * @returns {string[]} one sentence for each file that is too large
 */
export function checkSizes(root) {
  const files = filesBelow(
    [root],
    (path) => checked.has(extname(path)) && !lockFiles.has(basename(path)),
  )
  return files.flatMap((path) => {
    const text = readFileSync(path, 'utf8')
    if (path.includes('/generated/') || text.slice(0, 400).includes('@generated')) return []
    const name = relative(root, path)
    const lines = text.split('\n').length - 1
    const most = mostLines.get(extname(path)) ?? Infinity
    const bytes = Buffer.byteLength(text)
    return [
      ...(lines > most ? [`${name} has ${lines} lines, at most ${most} are allowed`] : []),
      ...(bytes > mostBytes
        ? [`${name} has ${bytes} bytes, at most ${mostBytes} are allowed`]
        : []),
    ]
  })
}
