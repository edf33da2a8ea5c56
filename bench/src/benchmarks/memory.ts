// Resident memory beyond touched guest RAM: of a process with one booted machine beside QEMU's, and of each further
// machine in the same process.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import {
  GuestProcess,
  bootOptions,
  guestFiles,
  ownCommand,
  peerCommand,
  peerVersion,
  shellPrompt,
} from '../lib/guest-process.ts'
import { paired, repeated, rounded } from '../lib/paired.ts'
import { processMemory } from '../lib/process-memory.ts'

const memoryMib = 256

/** MiB beyond guest RAM of a process with one machine at its shell. */
async function oneMachine(command: string): Promise<number> {
  const guest = new GuestProcess(command, ['-accel', 'tcg', ...bootOptions(memoryMib)])
  try {
    await guest.expect(shellPrompt)
    return processMemory(guest.pid, memoryMib << 20).rest.residentKib / 1024
  } finally {
    await guest.stop()
  }
}

/** MiB beyond guest RAM that each machine after the first adds to its process. */
async function furtherMachine(): Promise<number> {
  const machines = 4
  const program = fileURLToPath(new URL('../programs/many-machines.mjs', import.meta.url))
  const args = [program, String(machines), String(memoryMib), guestFiles.kernel, guestFiles.initrd]
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  const sizes: number[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    if (!line.startsWith('ready ')) continue
    sizes.push(processMemory(child.pid ?? 0, memoryMib << 20).rest.residentKib / 1024)
    progress(`${sizes.length} machines in one process: ${sizes.at(-1)?.toFixed(1)} MiB beyond RAM`)
    child.stdin.write('\n')
  }
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit')
  const [first, last] = [sizes[0], sizes[machines - 1]]
  if (first === undefined || last === undefined) throw new Error('not all machines came up')
  return (last - first) / (machines - 1)
}

export const name = 'memory'

export async function run(effort: Effort): Promise<Results> {
  const furtherMiB = rounded(await repeated(furtherMachine, effort, 3))
  const own = (): Promise<number> => oneMachine(ownCommand)
  if (peerVersion() === undefined) {
    return { ownMiB: rounded(await repeated(own, effort)), furtherMiB }
  }
  const pair = await paired({ own, peer: () => oneMachine(peerCommand) }, effort)
  return {
    ownMiB: rounded(pair.own),
    tcgMiB: rounded(pair.peer),
    memoryRatio: rounded(pair.ratio),
    furtherMiB,
  }
}
