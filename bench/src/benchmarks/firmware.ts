// SeaBIOS to the boot loader of a disk, and on to the shell of the system there, beside QEMU's own translator.
//
// `loader` is what an installation that is in use does, and `firstLoader` what one does where no machine has run for the eight
// seconds after which V8's code is kept (decision 17).
import { setTimeout as sleep } from 'node:timers/promises'

import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import {
  GuestProcess,
  guestFiles,
  ownCommand,
  peerCommand,
  peerVersion,
  shellPrompt,
} from '../lib/guest-process.ts'
import { type Measure, paired, repeated, rounded } from '../lib/paired.ts'

const memoryMib = 512
/** The firmware's first line on the serial console, and the boot loader's. */
const firmwareStarts = /SeaBIOS \(version/
const loaderStarts = /GRUB/
/** On a busy host this process may sleep through all that is to be measured. */
const ATTEMPTS = 5

/** Both programs run the same files; the peer's machine has a network card unless told not to. */
function options(more: readonly string[]): string[] {
  const drive = `file=${guestFiles.bootDisk},if=virtio,format=qcow2,snapshot=on`
  const machine = ['-accel', 'tcg', '-m', String(memoryMib), '-nographic', '-no-reboot']
  return [...machine, '-L', guestFiles.firmware, '-drive', drive, ...more]
}

/** Seconds between two texts on the console; from the start of the process without a first one. */
function between(
  command: string,
  more: readonly string[],
  first: RegExp | undefined,
  second: RegExp,
  environment?: NodeJS.ProcessEnv,
): Measure {
  return async () => {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      const seconds = await once(command, more, first, second, environment)
      if (seconds !== undefined) return seconds
    }
    throw new Error(`${ATTEMPTS} times this process was not there between ${first} and ${second}`)
  }
}

/** As {@link between}; undefined where this process slept through the first text and saw both at once. */
async function once(
  command: string,
  more: readonly string[],
  first: RegExp | undefined,
  second: RegExp,
  environment?: NodeJS.ProcessEnv,
): Promise<number | undefined> {
  const guest = new GuestProcess(command, options(more), environment)
  try {
    if (first !== undefined) await guest.expect(first, 600)
    if (guest.hasPrinted(second)) return undefined
    const start = first === undefined ? guest.startedAt : performance.now()
    await guest.expect(second, 600)
    return (performance.now() - start) / 1000
  } finally {
    await guest.stop()
  }
}

/** The peer's card would have firmware of its own, which looks for a network to boot from. */
const NO_CARD = ['-nic', 'none'] as const

/** V8 keeps code for each set of its flags: for these nobody runs a machine for long enough. */
const NEVER_USED = { NODE_OPTIONS: '--stack-trace-limit=11' } as const
/** Longer than a machine runs until its code is kept. */
const USE_MS = 10_000

/** One machine runs as long as those of users do. */
async function useInstallation(): Promise<void> {
  const guest = new GuestProcess(ownCommand, options(NO_CARD))
  try {
    await guest.expect(shellPrompt, 600)
    await sleep(Math.max(0, guest.startedAt + USE_MS - performance.now()))
  } finally {
    await guest.stop()
  }
}

/** What takes some 20 ms differs by as much from round to round. */
const SHORT_ROUNDS = 15

export const name = 'firmware'

export async function run(effort: Effort): Promise<Results> {
  const phases = {
    firstLoader: [firmwareStarts, loaderStarts, SHORT_ROUNDS, NEVER_USED],
    loader: [firmwareStarts, loaderStarts, SHORT_ROUNDS, undefined],
    shell: [undefined, shellPrompt, undefined, undefined],
  } as const
  const results: Record<string, number> = {}
  const hasPeer = peerVersion() !== undefined
  if (!hasPeer) progress('the peer is not installed: no ratio')
  await useInstallation()
  for (const [phase, [first, second, rounds, environment]] of Object.entries(phases)) {
    const own = between(ownCommand, NO_CARD, first, second, environment)
    if (!hasPeer) {
      results[`${phase}Seconds`] = rounded(await repeated(own, effort, rounds))
      continue
    }
    const peer = between(peerCommand, NO_CARD, first, second)
    const pair = await paired({ own, peer }, effort, rounds)
    results[`${phase}Seconds`] = rounded(pair.own)
    results[`${phase}TcgSeconds`] = rounded(pair.peer)
    results[`${phase}Ratio`] = rounded(pair.ratio)
  }
  return results
}
