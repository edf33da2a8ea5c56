// Child processes, and failures that are told in one sentence instead of a stack.
import { spawn, spawnSync } from 'node:child_process'
import { root } from './paths.mjs'

/** A failure whose message tells the user what to do; it is printed without a stack. */
export class Failure extends Error {}

/** @param {string} text progress goes to stderr, so that stdout stays the program's own */
export const log = (text) => process.stderr.write(`${text}\n`)

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd] the repository root by default
 * @property {NodeJS.ProcessEnv} [env] added to the environment
 * @property {(line: string) => unknown} [onLine] receives each line of stdout and stderr; without it both go to stderr
 */

/**
 * Runs a command to its end and resolves to its exit code; a signal counts as 128.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {RunOptions} [options]
 * @returns {Promise<number>}
 */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const { onLine } = options
    const child = spawn(command, args, {
      cwd: options.cwd ?? root,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', onLine ? 'pipe' : 2, onLine ? 'pipe' : 2],
    })
    if (onLine) for (const stream of [child.stdout, child.stderr]) splitLines(stream, onLine)
    child.on('error', (cause) => reject(new Failure(`cannot run ${command}: ${cause.message}`)))
    child.on('close', (code) => resolve(code ?? 128))
  })
}

/**
 * @param {import('node:stream').Readable | null} stream
 * @param {(line: string) => unknown} onLine
 */
function splitLines(stream, onLine) {
  let rest = ''
  stream?.setEncoding('utf8')
  stream?.on('data', (/** @type {string} */ text) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) onLine(line)
  })
  stream?.on('end', () => rest && onLine(rest))
}

/**
 * Runs a command that must succeed.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {RunOptions} [options]
 */
export async function must(command, args, options) {
  const code = await run(command, args, options)
  if (code !== 0) throw new Failure(`${command} ${args.join(' ')} failed with exit code ${code}`)
}

/**
 * The stdout of a command, or undefined when it is missing or fails.
 * @param {string} command
 * @param {readonly string[]} args
 */
export function capture(command, args) {
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28 })
  return result.status === 0 ? result.stdout : undefined
}

/**
 * Runs a script's main function: a Failure is printed as one line, anything else with its stack.
 * @param {() => Promise<number | void>} main returns the exit code, 0 when it returns nothing
 */
export async function script(main) {
  try {
    process.exitCode = (await main()) ?? 0
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    log(`error: ${error.message}`)
    process.exitCode = 1
  }
}
