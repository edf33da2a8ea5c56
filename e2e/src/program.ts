// Programs of the repository, run as a user runs them: in a process of their own, from the root.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** The repository. */
export const root: string = fileURLToPath(new URL('../../', import.meta.url))

/** What a program left behind. */
export interface Outcome {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a program to its end with the given standard input; it is killed when the time is over. */
export function runProgram(
  command: string,
  args: readonly string[],
  options: { input?: string; seconds?: number; env?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, env: { ...process.env, ...options.env } })
    const timer = setTimeout(() => child.kill('SIGKILL'), (options.seconds ?? 300) * 1000)
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    child.stdin.on('error', () => {})
    child.stdin.end(options.input ?? '')
    child.on('error', reject)
    child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ code, stdout, stderr })
    })
  })
}

/** Runs a program from the sources of examples. */
export function runExample(name: string, args: readonly string[] = []): Promise<Outcome> {
  return runProgram('node_modules/.bin/tsx', [`examples/${name}.ts`, ...args])
}
