// A whole Debian boots from its disk: firmware, GRUB, kernel, systemd, login. Only `npm run test:guests` has the disk.
import test from 'ava'
import { debianOverlay } from '../../src/debian.ts'
import { debianArguments, errorMessages, kernelErrors, withDebian } from '../../src/debian-shell.ts'
import { inspectImage, withFolder } from '../../src/disk.ts'

/** The disk takes minutes to make and to boot. */
const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip
wanted('Debian boots from its disk to login prompts, and writes to it', async (t) => {
  t.timeout(1_200_000)
  await withFolder(async (folder) => {
    const image = debianOverlay(folder)
    const code = await withDebian(debianArguments(image, '-smp', '2'), async (shell) => {
      t.is(await shell('systemctl is-system-running --wait'), 'running\n')
      t.is(await shell('systemctl list-units --failed --no-legend'), '')
      t.is(await shell('nproc'), '2\n')
      t.regex(await shell('findmnt -no SOURCE,FSTYPE,OPTIONS /'), /^\/dev\/vda1 ext4\s+rw,/)
      t.regex(
        await shell('systemctl is-active ssh getty@tty1 serial-getty@ttyS0'),
        /^(active\n){3}$/,
      )
      t.is(await shell('cat /sys/class/dmi/id/bios_vendor'), 'SeaBIOS\n')
      t.deepEqual(kernelErrors(await shell(errorMessages)), [])
      t.is(await shell('echo kept >/root/file; sync; cat /root/file'), 'kept\n')
    })
    t.is(code, 0)
    t.deepEqual(inspectImage(image), [])
    const again = await withDebian(debianArguments(image), async (shell) => {
      t.is(await shell('cat /root/file'), 'kept\n')
    })
    t.is(again, 0)
  })
})
