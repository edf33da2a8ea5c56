// A whole Debian for 32-bit machines: kernel, C library, systemd and programs. Only `npm run test:guests` has the disk.
import test from 'ava'
import { debianOverlay } from '../../src/debian.ts'
import { debianArguments, errorMessages, kernelErrors, withDebian } from '../../src/debian-shell.ts'
import { guestFiles } from '../../src/guest.ts'
import { inspectImage, withFolder } from '../../src/disk.ts'

const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip

wanted('32-bit Debian boots from its disk to login prompts, and its programs work', async (t) => {
  t.timeout(1_200_000)
  await withFolder(async (folder) => {
    const image = debianOverlay(folder, guestFiles.debian32)
    const code = await withDebian(debianArguments(image, '-smp', '2'), async (shell) => {
      t.regex(await shell('uname -rm'), /^\S+-686-pae i686\n$/)
      t.is(await shell('dpkg --print-architecture; nproc'), 'i386\n2\n')
      t.is(await shell('systemctl is-system-running --wait'), 'running\n')
      t.is(await shell('systemctl list-units --failed --no-legend'), '')
      t.regex(
        await shell('systemctl is-active ssh getty@tty1 serial-getty@ttyS0'),
        /^(active\n){3}$/,
      )
      t.deepEqual(kernelErrors(await shell(errorMessages)), [])
      // Floating point of the x87 kind, sums of more than 32 bits, threads, many processes.
      t.is(
        await shell("perl -e 'printf qq(%.15g %d\\n), exp(1) ** 10, 2 ** 31 - 1'"),
        '22026.4657948067 2147483647\n',
      )
      t.is(await shell('echo $((3 ** 39))'), '4052555153018976267\n')
      t.is(
        await shell(
          'seq 1 200000 | sort -R --random-source=/bin/ls --parallel=2 | sort -n | sha256sum | cut -c1-16',
        ),
        '5af7b95208fdcff4\n',
      )
      t.is(await shell("sh -c 'for i in $(seq 200); do true & done; wait'; echo all"), 'all\n')
      t.is(await shell('echo kept >/root/file; sync; cat /root/file'), 'kept\n')
    })
    t.is(code, 0)
    t.deepEqual(inspectImage(image), [])
  })
})
