// UEFI firmware: both sizes on both machines, from a ROM, and Linux started by its shell. Only `npm run test:guests`.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../../src/disk.ts'
import { fatDisk } from '../../src/fat.ts'
import { GuestProcess, command, guestFiles, prompt } from '../../src/guest.ts'
import { keepsVariables, uefiArguments, variableStore, withUefiShell } from '../../src/uefi.ts'

const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip

for (const machine of ['pc', 'q35'] as const) {
  for (const size of ['', '_4M'] as const) {
    if (machine === 'q35' && size === '') continue
    wanted(`variables of ${machine} are kept in OVMF_VARS${size}.fd`, (t) => {
      t.timeout(600_000)
      return keepsVariables(t, machine, size)
    })
  }
  wanted(`the firmware runs from a ROM on ${machine}`, async (t) => {
    t.timeout(600_000)
    const rom = ['-m', '256', '-nographic', '-bios', join(guestFiles.ovmf, 'OVMF.fd')]
    await withUefiShell(['-M', machine, '-L', guestFiles.firmware, ...rom], async (shell) => {
      t.regex(await shell('ver'), /UEFI v2\.70 \(EDK II/)
    })
  })

  wanted(
    `the shell of ${machine} starts Linux, which finds UEFI and its own way to power off`,
    async (t) => {
      t.timeout(600_000)
      await withFolder(async (folder) => {
        const image = join(folder, 'disk')
        const line = 'vmlinuz initrd=\\initrd console=ttyS0 quiet'
        const files = [
          { name: 'vmlinuz', data: readFileSync(guestFiles.kernel) },
          { name: 'initrd', data: readFileSync(guestFiles.initrd) },
          { name: 'startup.nsh', data: Buffer.from(`fs0:\r\n${line}\r\n`) },
        ]
        writeFileSync(image, fatDisk(files))
        const vars = variableStore(folder)
        const drive = `file=${image},if=${machine === 'q35' ? 'ide' : 'virtio'},format=raw`
        const guest = new GuestProcess(command, uefiArguments(machine, vars, '', '-drive', drive))
        try {
          await guest.expect(prompt)
          t.regex(await guest.shell('ls /sys/firmware/efi'), /efivars|runtime/)
          const log = await guest.shell('dmesg')
          t.regex(log, /efi: EFI v2\.70 by/)
          t.notRegex(log, /can't claim|no compatible bridge window|failed to assign/)
          guest.type('poweroff -f\n')
          t.is((await guest.end()).code, 0)
        } finally {
          await guest.kill()
        }
      })
    },
  )
}
