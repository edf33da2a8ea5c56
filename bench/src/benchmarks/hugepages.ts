// How much of touched guest RAM is in huge pages after a boot, beside QEMU, and what huge pages are worth: random reads of
// guest RAM in them against 4 KiB pages.
import { open } from 'kvm-core'
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
import { processMemory } from '../lib/process-memory.ts'

const memoryMib = 512

/** Percent of the resident guest RAM that is in huge pages when the shell is there. */
async function hugePercent(command: string): Promise<number> {
  const guest = new GuestProcess(command, ['-accel', 'tcg', ...bootOptions(memoryMib)])
  try {
    await guest.expect(shellPrompt)
    const { ram } = processMemory(guest.pid, memoryMib << 20)
    return (ram.hugeKib / ram.residentKib) * 100
  } finally {
    await guest.stop()
  }
}

/** Nanoseconds for each dependent read at random places of a guest RAM, and how much of it is in huge pages. */
async function randomReads(
  backing: 'anon' | 'memfd',
  reads: number,
): Promise<{ ns: number; huge: number }> {
  using kvm = open({ engine: 'soft' })
  await using vm = kvm.createVm()
  using ram = vm.createRam({ size: memoryMib << 20, backing })
  const words = new Uint32Array(ram.segment(0))
  const mask = words.length - 1
  // Each word holds the place of the next: a generator of full period, so that the walk visits all of them.
  for (let i = 0; i < words.length; i++) {
    words[i] = (Math.imul(i, 1_664_525) + 1_013_904_223) & mask
  }
  let at = 0
  const start = performance.now()
  for (let i = 0; i < reads; i++) at = words[at] ?? 0
  const ns = ((performance.now() - start) * 1e6) / reads
  // The result is used, or the loop could be dropped.
  if (at < 0) throw new Error('unreachable')
  return { ns, huge: ram.hugeBytes() / ram.size }
}

export const name = 'hugepages'

export async function run(effort: Effort): Promise<Results> {
  const reads = effort.quick ? 1_000_000 : 10_000_000
  const measure = (backing: 'anon' | 'memfd') => async (): Promise<number> => {
    const { ns, huge } = await randomReads(backing, reads)
    progress(`${backing}: ${ns.toFixed(1)} ns, ${(huge * 100).toFixed(0)} % huge`)
    return ns
  }
  const access = await paired({ own: measure('anon'), peer: measure('memfd') }, effort)
  const results = {
    hugePageNs: rounded(access.own),
    smallPageNs: rounded(access.peer),
    accessRatio: rounded(access.ratio),
  }
  const own = (): Promise<number> => hugePercent(ownCommand)
  if (peerVersion() === undefined) {
    return { ownHugePercent: rounded(await repeated(own, effort)), ...results }
  }
  const pair = await paired({ own, peer: () => hugePercent(peerCommand) }, effort)
  return { ownHugePercent: rounded(pair.own), tcgHugePercent: rounded(pair.peer), ...results }
}
