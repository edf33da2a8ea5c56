// Firmware with Secure Boot, which needs system management mode: what nobody signed is refused, and variables are
// written in the mode alone.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { guestFiles, prompt, withMachine } from '../src/guest.ts'
import { secureFiles, secureMachine } from '../src/secure-boot.ts'

const long = process.env['LONG'] !== undefined ? test.serial : test.skip

test('with keys in its variables the firmware refuses what nobody signed', async (t) => {
  t.timeout(300_000)
  await withFolder(async (folder) => {
    await withMachine(secureMachine(secureFiles(folder, 'OVMF_VARS_4M.ms.fd')), async (guest) => {
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
        const args = secureMachine(secureFiles(folder, 'OVMF_VARS_4M.fd'), '-smp', String(cpus))
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
