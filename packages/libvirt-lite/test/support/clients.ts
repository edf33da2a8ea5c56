import { execFile, spawn, spawnSync } from 'node:child_process'
import { promisify } from 'node:util'
import type { ExecutionContext } from 'ava'

export const hasVirsh: boolean = spawnSync('virsh', ['--version']).status === 0
/** The interpreter that Debian's packages are for. */
export const PYTHON = '/usr/bin/python3'
export const hasPython: boolean = spawnSync(PYTHON, ['-c', 'import libvirt']).status === 0

/** How a command ended. */
export interface Outcome {
  code: number
  output: string
}

/** Runs Debian's virsh on a daemon's socket. */
export async function virsh(socket: string, ...args: string[]): Promise<Outcome> {
  const uri = `qemu:///session?socket=${socket}`
  const env = { ...process.env, LC_ALL: 'C' }
  try {
    const { stdout } = await promisify(execFile)('virsh', ['-c', uri, ...args], {
      env,
      timeout: 60_000,
    })
    return { code: 0, output: stdout }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
    return { code, output: stdout + stderr }
  }
}

/** Says that a test was left out. */
export function without(t: ExecutionContext, what: string): void {
  t.log(`${what} is not installed: its half of this test is left out`)
  t.pass()
}

/** Runs virsh's command `event` until the test has seen enough. */
export function watchEvents(
  t: ExecutionContext,
  socket: string,
  ...args: string[]
): { output(): string } {
  const uri = `qemu:///session?socket=${socket}`
  const env = { ...process.env, LC_ALL: 'C' }
  // Its output is a terminal's or a file's: to a pipe it comes late.
  const command = ['-oL', 'virsh', '-c', uri, 'event', '--loop', ...args]
  const child = spawn('stdbuf', command, { env, stdio: ['ignore', 'pipe', 'ignore'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  t.teardown(() => child.kill('SIGKILL'))
  return { output: () => output }
}
