// Firmware with Secure Boot, which needs system management mode: what nobody signed is refused, and variables are
// written in the mode alone.
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { fatDisk } from '../src/fat.ts'
import { guestFiles, prompt, withMachine } from '../src/guest.ts'

const long = process.env['LONG'] !== undefined ? test.serial : test.skip

/** Options for a machine whose variables begin as this store of the package. */
function machine(folder: string, store: string, ...more: string[]): string[] {
  const vars = join(folder, 'vars.fd')
  copyFileSync(join(guestFiles.ovmf, store), vars)
  const image = join(folder, 'disk')
  const files = [
    { name: 'vmlinuz', data: readFileSync(guestFiles.kernel) },
    { name: 'initrd', data: readFileSync(guestFiles.initrd) },
    {
      name: 'startup.nsh',
      data: Buffer.from('fs0:\r\nvmlinuz initrd=\\initrd console=ttyS0\r\n'),
    },
  ]
  writeFileSync(image, fatDisk(files))
  const flash = 'if=pflash,format=raw'
  const drives = [
    ['-drive', `${flash},unit=0,readonly=on,file=OVMF_CODE_4M.secboot.fd`],
    ['-drive', `${flash},unit=1,file=${vars}`],
    ['-drive', `file=${image},if=ide,format=raw`],
    ['-global', 'driver=cfi.pflash01,property=secure,value=on'],
  ]
  const folders = ['-L', guestFiles.ovmf, '-L', guestFiles.firmware]
  const board = ['-M', 'q35,smm=on', '-accel', 'tcg', '-m', '512', '-nographic', '-nic', 'none']
  return [...board, ...folders, ...drives.flat(), ...more]
}

test('with keys in its variables the firmware refuses what nobody signed', async (t) => {
  t.timeout(300_000)
  await withFolder(async (folder) => {
    await withMachine(machine(folder, 'OVMF_VARS_4M.ms.fd'), async (guest) => {
      t.regex(
        await guest.expect(/Security Violation|Shell>/),
        /failed to start .*Security Violation/,
      )
    })
    // Its boot entries: with nothing but the mode to write them.
    const [before, after] = [join(guestFiles.ovmf, 'OVMF_VARS_4M.ms.fd'), join(folder, 'vars.fd')]
    t.notDeepEqual(readFileSync(after), readFileSync(before))
  })
})

for (const cpus of [1, 2]) {
  long(
    `without keys it starts Linux on ${cpus} processors, which all enter the mode`,
    async (t) => {
      t.timeout(600_000)
      await withFolder(async (folder) => {
        const args = machine(folder, 'OVMF_VARS_4M.fd', '-smp', String(cpus))
        await withMachine(args, async (guest) => {
          await guest.expect(prompt)
          const log = await guest.shell('dmesg')
          t.regex(log, /secureboot: Secure boot disabled/)
          t.regex(log, /efi: EFI v2\.70 by/)
          t.regex(await guest.shell('grep -c ^processor /proc/cpuinfo'), new RegExp(`^${cpus}\\s`))
        })
      })
    },
  )
}
