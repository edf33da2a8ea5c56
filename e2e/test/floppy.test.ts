// A floppy disk of our own, booted by SeaBIOS: read, written and formatted through the BIOS, by DMA.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import {
  floppyDisk,
  floppyOffset,
  floppyTarget,
  formattedTrack,
  sectorBytes,
} from '../src/boot-sector.ts'
import { withFolder } from '../src/disk.ts'
import { GuestProcess, command, guestFiles } from '../src/guest.ts'

for (const machine of ['pc', 'q35']) {
  test.serial(`${machine}: a floppy disk boots, and is read, written and formatted`, async (t) => {
    await withFolder(async (folder) => {
      const image = join(folder, 'floppy')
      const before = floppyDisk('Here is the floppy.', 'Here is its second sector.')
      writeFileSync(image, before)
      // A disk that cannot boot has its turn only if the floppy is not first.
      const disk = join(folder, 'disk')
      writeFileSync(disk, new Uint8Array(1 << 20))
      const first = ['-drive', `file=${disk},format=raw`]
      const drive = [...first, '-drive', `file=${image},if=floppy,format=raw,bootindex=0`]
      const args = ['-M', machine, '-m', '64', '-nographic', '-L', guestFiles.firmware, ...drive]
      const guest = new GuestProcess(command, args)
      try {
        await guest.expect(/Booting from Floppy/)
        await guest.expect(/Here is the floppy\.\s+Here is its second sector\.\s+written/)
        t.deepEqual(await guest.end(), { code: 0, signal: null })
      } finally {
        await guest.kill()
      }
      const { track, head, sector } = floppyTarget
      const expected = before.slice()
      const at = floppyOffset(track, head, sector)
      expected.set(before.subarray(sectorBytes, 2 * sectorBytes), at)
      const formatted = [0, 1].map((side) => floppyOffset(formattedTrack, side, 1))
      expected.fill(0xf6, formatted[0], formatted[1])
      t.is(Buffer.compare(readFileSync(image), expected), 0)
    })
  })
}
