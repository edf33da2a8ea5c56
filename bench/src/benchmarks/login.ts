// Power-on to the login prompt of a whole Debian, from a disk at virtio-blk and at IDE, beside QEMU's own translator.
import { existsSync } from 'node:fs'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import {
  GuestProcess,
  guestFiles,
  ownCommand,
  peerCommand,
  peerVersion,
} from '../lib/guest-process.ts'
import { paired, repeated, rounded } from '../lib/paired.ts'

const memoryMib = 1024
const attachments = ['virtio', 'ide'] as const
/** Where the system asks who it is, on the serial console. */
const login = /guest login: $/

/** Seconds from the start of the process to the prompt. */
async function boot(command: string, attachment: string): Promise<number> {
  const drive = `file=${guestFiles.debian},if=${attachment},format=qcow2,snapshot=on`
  const machine = ['-accel', 'tcg', '-m', String(memoryMib), '-nographic', '-no-reboot']
  const files = ['-L', guestFiles.firmware, '-nic', 'none', '-drive', drive]
  const guest = new GuestProcess(command, [...machine, ...files])
  try {
    await guest.expect(login, 900)
    return (performance.now() - guest.startedAt) / 1000
  } finally {
    await guest.stop()
  }
}

export const name = 'login'

export async function run(effort: Effort): Promise<Results> {
  if (!existsSync(guestFiles.debian)) {
    progress('there is no Debian disk: `node scripts/guests.mjs --debian` makes it, as root')
    return {}
  }
  const wanted = effort.items ?? []
  const unknown = wanted.find((item) => !attachments.some((attachment) => attachment === item))
  if (unknown !== undefined) throw new Error(`item ${unknown}: there are ${attachments.join(', ')}`)
  const results: Record<string, number> = {}
  const hasPeer = peerVersion() !== undefined
  if (!hasPeer) progress('the peer is not installed: no ratio')
  for (const attachment of attachments) {
    if (wanted.length > 0 && !wanted.includes(attachment)) continue
    progress(attachment)
    const own = (): Promise<number> => boot(ownCommand, attachment)
    if (!hasPeer) {
      results[`${attachment}Seconds`] = rounded(await repeated(own, effort))
      continue
    }
    const peer = (): Promise<number> => boot(peerCommand, attachment)
    const pair = await paired({ own, peer }, effort)
    results[`${attachment}Seconds`] = rounded(pair.own)
    results[`${attachment}TcgSeconds`] = rounded(pair.peer)
    results[`${attachment}Ratio`] = rounded(pair.ratio)
  }
  return results
}
