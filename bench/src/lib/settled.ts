// An installation that has been in use: the first machine that runs for some seconds keeps what V8 compiled, for all later.
import { existsSync, readdirSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { progress } from './benchmark.ts'
import { GuestProcess, bootOptions, guestFiles, ownCommand, shellPrompt } from './guest-process.ts'

const code = new URL('../../../packages/qemu-vmm/dist/scripts/code/', import.meta.url)
/** The command's and that of the devices' thread. */
const PARTS = 2
const WAIT_MS = 500
const MOST_WAITS = 60

/** Runs a machine until its code is kept, unless one has done so before. */
export async function settled(): Promise<void> {
  if (isKept() || !existsSync(guestFiles.diskInitrd)) return
  progress('the first machine of an installation: its code is kept')
  const disk = ['-drive', `file=${guestFiles.bootDisk},if=virtio,format=qcow2,snapshot=on`]
  const options = ['-accel', 'tcg', ...bootOptions(512, guestFiles.diskInitrd), ...disk]
  const guest = new GuestProcess(ownCommand, options)
  try {
    await guest.expect(shellPrompt, 600)
    await guest.shell('dd if=/dev/vda of=/dev/null bs=1M iflag=direct 2>&1', 600)
    for (let waits = 0; !isKept() && waits < MOST_WAITS; waits++) await sleep(WAIT_MS)
  } finally {
    await guest.stop()
  }
}

function isKept(): boolean {
  return existsSync(code) && readdirSync(code).length >= PARTS
}
