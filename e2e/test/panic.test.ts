// A guest's kernel that dies tells so, and -action says what becomes of the machine.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { bootArguments, prompt, withGuest } from '../src/guest.ts'
import { initrdWithModules } from '../src/modules.ts'

const folder = mkdtempSync(join(tmpdir(), 'e2e-panic-'))
const initrd = join(folder, 'initrd')

test.before(() => {
  const modules = ['pvpanic', 'pvpanic-mmio', 'pvpanic-pci'].map((name) => `misc/pvpanic/${name}`)
  initrdWithModules(initrd, modules)
})

test.after.always(() => {
  rmSync(folder, { recursive: true, force: true })
})

for (const [driver, module] of [
  ['pvpanic', 'pvpanic-mmio'],
  ['pvpanic-pci', 'pvpanic-pci'],
] as const) {
  test.serial(
    `${driver}: a panic ends the machine, and with exit-failure so does its status`,
    async (t) => {
      const action = ['-action', 'panic=exit-failure']
      await withGuest(
        [...bootArguments({ initrd }), '-device', driver, ...action],
        async (guest) => {
          t.is(await guest.shell(`insmod /pvpanic.ko; insmod /${module}.ko; echo $?`), '0\n')
          guest.type('echo c >/proc/sysrq-trigger\n')
          t.deepEqual(await guest.end(), { code: 1, signal: null })
          t.regex(guest.output, /Kernel panic - not syncing: sysrq triggered crash/)
        },
      )
    },
  )
}

test.serial('a machine that pauses can be looked at, and reset', async (t) => {
  const args = [...bootArguments({ initrd }), '-device', 'pvpanic', '-action', 'panic=pause']
  await withGuest(args, async (guest) => {
    t.is(await guest.shell('insmod /pvpanic.ko; insmod /pvpanic-mmio.ko; echo $?'), '0\n')
    guest.type('echo c >/proc/sysrq-trigger\n')
    await guest.expect(/Kernel panic - not syncing/)
    guest.type('\u0001c')
    // The guest tells it a little after its console does.
    for (let isPaused = false; !isPaused;) {
      guest.type('info status\n')
      isPaused = (await guest.expect(/VM status: .*\r\n/)).includes('paused (guest-panicked)')
    }
    guest.type('system_reset\ncont\n\u0001c')
    await guest.expect(prompt)
    guest.type('\u0001cquit\n')
    t.is((await guest.end()).code, 0)
  })
})
