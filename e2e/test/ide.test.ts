import { randomBytes } from 'node:crypto'
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import test from 'ava'

import { imageCommand } from '../src/guest.ts'
import { bootArguments, guestFiles, withGuest } from '../src/guest.ts'
import { must, withFolder } from '../src/disk.ts'

const MIB = 1 << 20
const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex')
const ideArguments = (...more: string[]): string[] => [
  ...bootArguments({ memoryMib: 256, initrd: guestFiles.ataInitrd }),
  ...more,
]

test.serial('Linux finds an IDE disk and a CD, reads both and writes the disk', async (t) => {
  await withFolder(async (folder) => {
    const image = join(folder, 'disk.img')
    const iso = join(folder, 'cd.iso')
    const disk = randomBytes(8 * MIB)
    const medium = randomBytes(3 * MIB)
    writeFileSync(image, disk)
    writeFileSync(iso, medium)
    const drives = ['-drive', `file=${image},format=raw`, '-cdrom', iso]
    await withGuest(ideArguments(...drives), async (guest) => {
      const log = await guest.shell('dmesg')
      t.regex(log, /ata1\.00: ATA-7: QEMU HARDDISK, 2\.5\+, max UDMA\/100/)
      t.regex(log, /ata2\.00: ATAPI: QEMU DVD-ROM, 2\.5\+, max UDMA\/100/)
      t.regex(log, /\[sda\] 16384 512-byte logical blocks/)
      const sum = async (path: string, options = ''): Promise<string> =>
        (await guest.shell(`dd if=${path} bs=64k ${options} 2>/dev/null | md5sum`)).slice(0, 32)
      t.is(await sum('/dev/sda'), md5(disk))
      t.is(await sum('/dev/sr0'), md5(medium))
      t.is(
        await sum('/dev/sda', 'iflag=direct skip=5 count=9'),
        md5(disk.subarray(5 << 16, 14 << 16)),
      )
      const copy =
        'dd if=/dev/sr0 of=/dev/sda bs=64k seek=16 count=32 conv=fsync 2>/dev/null; echo $?'
      t.regex(await guest.shell(copy), /^0$/m)
      t.notRegex(await guest.shell('dmesg'), /ata\d.*(exception|failed command|reset)/)
    })
    const written = readFileSync(image)
    t.is(md5(written.subarray(MIB, 3 * MIB)), md5(medium.subarray(0, 2 * MIB)))
    t.is(md5(written.subarray(0, MIB)), md5(disk.subarray(0, MIB)))
    t.is(md5(written.subarray(3 * MIB)), md5(disk.subarray(3 * MIB)))
  })
})

test.serial('Linux without DMA uses the data port, in multiple mode and not', async (t) => {
  await withFolder(async (folder) => {
    const image = join(folder, 'disk.qcow2')
    const raw = join(folder, 'disk.img')
    const disk = randomBytes(2 * MIB)
    writeFileSync(raw, disk)
    must(imageCommand, ['convert', '-f', 'raw', '-O', 'qcow2', raw, image])
    const args = bootArguments({
      memoryMib: 256,
      initrd: guestFiles.ataInitrd,
      append: 'libata.dma=0',
    })
    await withGuest([...args, '-hdb', image, '-nodefaults', '-serial', 'stdio'], async (guest) => {
      // The modules read their parameters from the command line only when modprobe gives them.
      await guest.shell('rmmod ata_piix; rmmod sr_mod sd_mod 2>/dev/null; rmmod libata')
      await guest.shell('insmod /lib/modules/libata.ko dma=0; insmod /lib/modules/ata_piix.ko')
      await guest.shell('insmod /lib/modules/sd_mod.ko; until [ -b /dev/sda ]; do sleep 0.1; done')
      t.regex(await guest.shell('cat /sys/class/ata_device/dev1.1/xfer_mode'), /PIO/)
      const read = await guest.shell('dd if=/dev/sda bs=64k 2>/dev/null | md5sum')
      t.is(read.slice(0, 32), md5(disk))
      const copy =
        'dd if=/dev/sda of=/dev/sda bs=64k count=8 seek=16 conv=fsync 2>/dev/null; echo $?'
      t.regex(await guest.shell(copy), /^0$/m)
    })
    must(imageCommand, ['convert', '-f', 'qcow2', '-O', 'raw', image, raw])
    const written = readFileSync(raw)
    t.is(md5(written.subarray(MIB, MIB + MIB / 2)), md5(disk.subarray(0, MIB / 2)))
  })
})
