// An installation that has been in use: the first machines that run for some seconds keep what V8 compiled, for all later.
// One starts with a kernel, one with firmware: what they compile is kept apart.
import { existsSync, readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { progress } from './benchmark.ts'
import { GuestProcess, bootOptions, guestFiles, ownCommand, shellPrompt } from './guest-process.ts'

const code = new URL('../../../packages/qemu-vmm/dist/scripts/code/', import.meta.url)
const WAIT_MS = 500
const MOST_WAITS = 60

/** Runs machines until their code is kept, unless some have done so before. */
export async function settled(): Promise<void> {
  if (!existsSync(guestFiles.diskInitrd)) return
  const disk = ['-drive', `file=${guestFiles.bootDisk},if=virtio,format=qcow2,snapshot=on`]
  const kernel = bootOptions(512, guestFiles.diskInitrd)
  await settle('kernel', [...kernel, ...disk], async (guest) => {
    await guest.shell('dd if=/dev/vda of=/dev/null bs=1M iflag=direct 2>&1', 600)
  })
  const firmware = ['-m', '512', '-nographic', '-no-reboot', '-L', guestFiles.firmware]
  await settle('firmware', [...firmware, ...disk, '-nic', 'none'])
}

async function settle(
  starts: string,
  options: readonly string[],
  use: (guest: GuestProcess) => Promise<void> = async () => {},
): Promise<void> {
  if (isKept(starts)) return
  progress(`the first machine of an installation that starts with ${starts}: its code is kept`)
  const guest = new GuestProcess(ownCommand, ['-accel', 'tcg', ...options])
  try {
    await guest.expect(shellPrompt, 600)
    await use(guest)
    for (let waits = 0; !isKept(starts) && waits < MOST_WAITS; waits++) await sleep(WAIT_MS)
  } finally {
    await guest.stop()
  }
}

/** The command's, and that of the devices' thread. */
function isKept(starts: string): boolean {
  if (!existsSync(code)) return false
  const names = readdirSync(code)
  return ['qemu-kvm-', `worker-${starts}-`].every((part) =>
    names.some((name) => name.startsWith(part)),
  )
}
