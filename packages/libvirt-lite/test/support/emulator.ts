import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createConnection } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { featuresOf, parseDeviceHelp, qemuKvmFeatures } from '../../src/domain/index.ts'
import type { DomainCommand, EmulatorFeatures } from '../../src/domain/index.ts'
import { listens } from './listens.ts'

/** An emulator on this machine, and what it has. */
export interface Emulator {
  name: string
  command: readonly string[]
  features: EmulatorFeatures
}

const ours = fileURLToPath(new URL('../../../qemu-vmm/bin/qemu-kvm.cjs', import.meta.url))
const debians = '/usr/bin/qemu-system-x86_64'

/** The emulators that are there: our own always, Debian's when it is installed. */
export function emulators(): Emulator[] {
  const help = execFileSync(process.execPath, [ours, '-device', 'help'], { encoding: 'utf8' })
  const features = { ...qemuKvmFeatures, devices: parseDeviceHelp(help) }
  const own = { name: 'qemu-kvm', command: [process.execPath, ours], features }
  const debian = { name: debians, command: [debians], features: featuresOf(debians) }
  return existsSync(debians) ? [own, debian] : [own]
}

/** Starts an emulator with a domain's arguments, asks it over QMP what it is, and ends it. */
export async function startAndQuit(
  emulator: Emulator,
  { args }: DomainCommand,
  qmpSocket: string,
): Promise<{ status: unknown; name: unknown }> {
  const [program = '', ...first] = emulator.command
  const child = spawn(program, [...first, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const exited = new Promise<number | null>((resolve) => child.once('close', resolve))
  try {
    for (let tries = 0; !(await listens(qmpSocket)); tries++) {
      if (child.exitCode !== null || tries > 300) throw new Error(`it did not start: ${output}`)
      await sleep(100)
    }
    const answers = await converse(qmpSocket, [
      'qmp_capabilities',
      'query-status',
      'query-name',
      'quit',
    ])
    const code = await exited
    if (code !== 0) throw new Error(`it ended with ${code}: ${output}`)
    return { status: answers[1], name: answers[2] }
  } finally {
    child.kill('SIGKILL')
    await exited
  }
}

/** Sends commands one after the other; returns what each returned. */
async function converse(path: string, commands: readonly string[]): Promise<unknown[]> {
  const socket = createConnection(path)
  const answers: unknown[] = []
  let rest = ''
  await new Promise<void>((resolve, reject) => {
    socket.setTimeout(30_000, () => reject(new Error('QMP does not answer')))
    socket.once('error', reject)
    socket.once('close', () => resolve())
    socket.on('data', (chunk) => {
      const lines = (rest + chunk.toString()).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) {
        const message = JSON.parse(line) as { QMP?: unknown; return?: unknown; error?: unknown }
        if (message.error !== undefined) reject(new Error(line))
        if (message.return !== undefined) answers.push(message.return)
        if (message.QMP === undefined && message.return === undefined) continue
        const next = commands[answers.length]
        if (next === undefined) resolve()
        else socket.write(`${JSON.stringify({ execute: next })}\n`)
      }
    })
  })
  socket.destroy()
  return answers
}
