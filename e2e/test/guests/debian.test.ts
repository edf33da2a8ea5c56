// A whole Debian boots from its disk: firmware, GRUB, kernel, systemd, login. Only `npm run test:guests` has the disk.
import { join } from 'node:path'
import test from 'ava'
import { inspectImage, must, withFolder } from '../../src/disk.ts'
import { GuestProcess, command, guestFiles, imageCommand } from '../../src/guest.ts'

/** The disk takes minutes to make and to boot. */
const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip
/** The prompt of root's shell, behind what the terminal is asked. */
const rootPrompt = /root@guest:~# $/

/** Options of a machine with this image as its disk. */
function machine(image: string, ...more: string[]): string[] {
  const drive = `file=${image},if=virtio`
  return ['-m', '1024', '-nographic', '-L', guestFiles.firmware, '-drive', drive, ...more]
}

/** Boots to the login prompt, logs in, hands the shell to `work`, and switches off. */
async function withDebian(
  args: readonly string[],
  work: (shell: (line: string) => Promise<string>, guest: GuestProcess) => Promise<void>,
): Promise<number | null> {
  const guest = new GuestProcess(command, args)
  try {
    await guest.expect(/Debian GNU\/Linux[^]*guest login: $/)
    guest.type('root\n')
    await guest.expect(rootPrompt)
    const shell = async (line: string): Promise<string> => {
      guest.type(`${line}\n`)
      const seen = (await guest.expect(rootPrompt)).replaceAll('\r', '')
      return seen.slice(seen.indexOf('\n') + 1, seen.lastIndexOf('\n') + 1)
    }
    // Editing of the line and colours are for people.
    await shell('bind "set enable-bracketed-paste off"')
    await work(shell, guest)
    guest.type('poweroff\n')
    return (await guest.end()).code
  } finally {
    await guest.kill()
  }
}

wanted('Debian boots from its disk to login prompts, and writes to it', async (t) => {
  t.timeout(1_200_000)
  await withFolder(async (folder) => {
    const image = join(folder, 'debian.qcow2')
    must(imageCommand, ['create', '-f', 'qcow2', '-F', 'qcow2', '-b', guestFiles.debian, image])
    const code = await withDebian(machine(image, '-smp', '2'), async (shell) => {
      t.is(await shell('systemctl is-system-running --wait'), 'running\n')
      t.is(await shell('systemctl list-units --failed --no-legend'), '')
      t.is(await shell('nproc'), '2\n')
      t.regex(await shell('findmnt -no SOURCE,FSTYPE,OPTIONS /'), /^\/dev\/vda1 ext4\s+rw,/)
      t.regex(
        await shell('systemctl is-active ssh getty@tty1 serial-getty@ttyS0'),
        /^(active\n){3}$/,
      )
      t.is(await shell('cat /sys/class/dmi/id/bios_vendor'), 'SeaBIOS\n')
      t.is(await shell('dmesg --level=emerg,alert,crit,err'), '')
      t.is(await shell('echo kept >/root/file; sync; cat /root/file'), 'kept\n')
    })
    t.is(code, 0)
    t.deepEqual(inspectImage(image), [])
    const again = await withDebian(machine(image), async (shell) => {
      t.is(await shell('cat /root/file'), 'kept\n')
    })
    t.is(again, 0)
  })
})
