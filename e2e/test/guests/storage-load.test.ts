// Debian's disks under load: fio writes at random and reads back what it wrote, and what a file system frees is given back to the
// host. Images are whole afterwards.
import { statSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { debianOverlay } from '../../src/debian.ts'
import { debianArguments, errorMessages, kernelErrors, withDebian } from '../../src/debian-shell.ts'
import { must, withFolder } from '../../src/disk.ts'
import { imageCommand } from '../../src/guest.ts'

const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip
const sizeMib = 256
const fileMib = 96

const storedMib = (path: string): number => (statSync(path).blocks * 512) / 2 ** 20

wanted('fio reads what it wrote, and fstrim gives storage back', async (t) => {
  t.timeout(1_800_000)
  await withFolder(async (folder) => {
    const images = { raw: join(folder, 'disk.raw'), qcow2: join(folder, 'disk.qcow2') }
    const drives = Object.entries(images).flatMap(([format, file]) => {
      must(imageCommand, ['create', '-q', '-f', format, file, `${sizeMib}M`])
      return ['-drive', `file=${file},if=virtio,format=${format},discard=unmap`]
    })
    const args = debianArguments(debianOverlay(folder), '-smp', '2', ...drives)
    const code = await withDebian(args, async (shell) => {
      for (const [i, disk] of ['vdb', 'vdc'].entries()) {
        const file = Object.values(images)[i]!
        const job = '--rw=randrw --bsrange=4k-64k --iodepth=16 --size=64M --end_fsync=1'
        const verify = '--verify=crc32c --verify_backlog=64 --verify_fatal=1'
        const fio = `fio --name=j --filename=/dev/${disk} --direct=1 --ioengine=libaio ${job} ${verify}`
        t.regex(await shell(`${fio} >fio 2>&1; echo "ended with $?"`), /ended with 0/)
        t.regex(await shell('grep -c err= fio'), /^1$/m)
        t.regex(await shell('grep err= fio'), /err= 0/)

        await shell(`mkfs.ext4 -q -F -E nodiscard /dev/${disk} && mount /dev/${disk} /mnt`)
        await shell(`dd if=/dev/urandom of=/mnt/file bs=1M count=${fileMib}; sync`)
        const before = storedMib(file)
        t.true(before >= fileMib, `${before} MiB are stored`)
        await shell('rm /mnt/file; sync')
        t.regex(await shell('fstrim -v /mnt'), /^\/mnt: .* trimmed/m)
        t.regex(await shell('umount /mnt && echo it went'), /^it went$/m)
        const after = storedMib(file)
        t.true(after <= before - fileMib, `${before} MiB were stored, ${after} MiB are left`)
      }
      t.deepEqual(kernelErrors(await shell(errorMessages)), [])
    })
    t.is(code, 0)
    t.regex(must(imageCommand, ['check', images.qcow2]), /No errors were found/)
  })
})
