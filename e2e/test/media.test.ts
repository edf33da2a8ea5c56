// CDs are changed while Linux runs, by the monitor and by the guest.
import { createHash, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { bootArguments, guestFiles, withGuest } from '../src/guest.ts'
import { machineProtocol } from '../src/qmp.ts'

const MIB = 1 << 20
const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex')

test.serial('Linux reads one CD after the other, and keeps and gives them', async (t) => {
  await withFolder(async (folder) => {
    const path = join(folder, 'qmp')
    const disks = [3, 5].map((mib) => randomBytes(mib * MIB))
    const [first, second] = disks.map((bytes, i) => {
      const file = join(folder, `${i}.iso`)
      writeFileSync(file, bytes)
      return file
    })
    const args = [
      ...bootArguments({ memoryMib: 256, initrd: guestFiles.ataInitrd }),
      '-qmp',
      `unix:${path},server=on,wait=off`,
    ]
    await withGuest(args, async (guest) => {
      const qmp = await machineProtocol(path)
      const device = { device: 'ide1-cd0' }
      const sum = async (): Promise<string> => {
        // As on QEMU, Linux reads nothing at the open that finds another medium.
        await guest.shell('head -c 1 /dev/sr0 >/dev/null 2>&1; echo')
        return (await guest.shell('dd if=/dev/sr0 bs=64k 2>/dev/null | md5sum')).slice(0, 32)
      }
      try {
        await qmp.ask('qmp_capabilities')
        await guest.shell('dmesg -n 1; until [ -b /dev/sr0 ]; do sleep 0.1; done')
        t.regex(await guest.shell('head -c 1 /dev/sr0 2>&1'), /No medium found/)
        for (const [i, filename] of [first!, second!, first!].entries()) {
          await qmp.ask('blockdev-change-medium', { ...device, filename, format: 'raw' })
          t.is(await sum(), md5(disks[i % 2]!), `medium ${i}`)
          t.is(Number(await guest.shell('cat /sys/block/sr0/size')) * 512, disks[i % 2]!.length)
        }
        // Whoever has it open has it locked.
        await guest.shell('exec 3</dev/sr0; echo open')
        await t.throwsAsync(qmp.ask('eject', device), {
          message: /is locked and force was not/,
        })
        await guest.shell('exec 3<&-; echo closed')
        await qmp.ask('eject', device)
        t.regex(await guest.shell('head -c 1 /dev/sr0 2>&1'), /No medium found/)
        const filename = second!
        await qmp.ask('blockdev-change-medium', { ...device, filename, format: 'raw' })
        t.is(await sum(), md5(disks[1]!))
        await qmp.ask('quit')
      } finally {
        qmp.close()
      }
      t.is((await guest.end()).code, 0)
    })
  })
})
