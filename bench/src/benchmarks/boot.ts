// Boot of Debian's cloud kernel to the shell's first prompt, one vCPU, beside QEMU's own translator.
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import {
  GuestProcess,
  bootOptions,
  ownCommand,
  peerCommand,
  peerVersion,
  shellPrompt,
} from '../lib/guest-process.ts'
import { paired, repeated, rounded } from '../lib/paired.ts'

const memoryMib = 512

/** Seconds from the start of the process to the prompt. */
async function boot(command: string, args: readonly string[]): Promise<number> {
  const guest = new GuestProcess(command, args)
  try {
    await guest.expect(shellPrompt, 600)
    return (performance.now() - guest.startedAt) / 1000
  } finally {
    await guest.stop()
  }
}

export const name = 'boot'

export async function run(effort: Effort): Promise<Results> {
  const options = bootOptions(memoryMib)
  const own = (): Promise<number> => boot(ownCommand, ['-accel', 'tcg', ...options])
  if (peerVersion() === undefined) {
    progress('the peer is not installed: no ratio')
    return { ownSeconds: rounded(await repeated(own, effort)) }
  }
  const peer = (): Promise<number> => boot(peerCommand, ['-accel', 'tcg', ...options])
  const result = await paired({ own, peer }, effort)
  return {
    ownSeconds: rounded(result.own),
    tcgSeconds: rounded(result.peer),
    bootRatio: rounded(result.ratio),
  }
}
