// SeaBIOS to the boot loader of a disk, and on to the shell of the system there, beside QEMU's own translator.
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
): Measure {
  return async () => {
    const guest = new GuestProcess(command, options(more))
    try {
      if (first !== undefined) await guest.expect(first, 600)
      const start = first === undefined ? guest.startedAt : performance.now()
      await guest.expect(second, 600)
      return (performance.now() - start) / 1000
    } finally {
      await guest.stop()
    }
  }
}

/** The peer's card would have firmware of its own, which looks for a network to boot from. */
const NO_CARD = ['-nic', 'none'] as const

export const name = 'firmware'

export async function run(effort: Effort): Promise<Results> {
  const phases = {
    loader: [firmwareStarts, loaderStarts],
    shell: [undefined, shellPrompt],
  } as const
  const results: Record<string, number> = {}
  const hasPeer = peerVersion() !== undefined
  if (!hasPeer) progress('the peer is not installed: no ratio')
  for (const [phase, [first, second]] of Object.entries(phases)) {
    const own = between(ownCommand, NO_CARD, first, second)
    if (!hasPeer) {
      results[`${phase}Seconds`] = rounded(await repeated(own, effort))
      continue
    }
    const peer = between(peerCommand, NO_CARD, first, second)
    const pair = await paired({ own, peer }, effort)
    results[`${phase}Seconds`] = rounded(pair.own)
    results[`${phase}TcgSeconds`] = rounded(pair.peer)
    results[`${phase}Ratio`] = rounded(pair.ratio)
  }
  return results
}
