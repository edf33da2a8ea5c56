// What system management mode of a firmware has to come through: suspend to RAM, a saved state, processors to come.
import { copyFileSync, existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { MachineConfig, MachineState } from 'qemu-vmm'
import { withFolder } from '../src/disk.ts'
import type { GuestProcess } from '../src/guest.ts'
import { bootTimeoutMs, guestFiles, withGuest } from '../src/guest.ts'
import { initrdWithModules } from '../src/modules.ts'
import { machineProtocol } from '../src/qmp.ts'
import { seeded } from '../src/random.ts'
import { secureCode, secureFiles, secureMachine } from '../src/secure-boot.ts'

const long = process.env['LONG'] !== undefined ? test.serial : test.skip
const store = 'OVMF_VARS_4M.fd'
/** Where the structure of a processor's events says that it is in the mode (linux/kvm.h). */
const EVENTS_SMM = 24

const variables = '/sys/firmware/efi/efivars'
const vendor = '12345678-1234-1234-1234-123456789abc'

/** Has the kernel write a variable, which the firmware does in the mode. */
async function setVariable(guest: GuestProcess, name: string): Promise<string> {
  // Attributes first: it stays, and is there at run time.
  await guest.shell(`F=${variables}/${name}-${vendor}`)
  return await guest.shell("printf '\\007\\000\\000\\000seen' > $F; tail -c 4 $F; echo")
}

long('Linux on two processors suspends to RAM, and the mode serves it as before', async (t) => {
  t.timeout(600_000)
  await withFolder(async (folder) => {
    const initrd = join(folder, 'initrd')
    initrdWithModules(initrd, ['../fs/efivarfs/efivarfs'])
    const files = secureFiles(folder, store, initrd)
    await withGuest(secureMachine(files, '-smp', '2'), async (guest) => {
      await guest.shell(`insmod /efivarfs.ko; mount -t efivarfs none ${variables}`)
      t.is(await setVariable(guest, 'Before'), 'seen\n')
      for (const round of ['First', 'Second']) {
        await guest.shell(`echo ${round} > /tmp/file; echo +3 > /sys/class/rtc/rtc0/wakealarm`)
        t.is(await guest.shell('echo mem > /sys/power/state; cat /tmp/file'), `${round}\n`)
        t.is(await setVariable(guest, round), 'seen\n')
      }
      const log = await guest.shell('dmesg | grep -E "PM: suspend|Low-level resume|CPU1 is up"')
      const sleep = 'suspend entry \\(deep\\)[^]*Low-level resume[^]*CPU1 is up[^]*suspend exit[^]*'
      t.regex(log, new RegExp(sleep.repeat(2)))
      t.notRegex(await guest.shell('dmesg'), /call trace|efi:.*failed/i)
      guest.type('poweroff -f\n')
      t.is((await guest.end()).code, 0)
    })
    const stored = readFileSync(files.vars)
    for (const name of ['Before', 'First', 'Second']) {
      t.true(stored.includes(Buffer.from(`${name}\0`, 'utf16le')), name)
    }
  })
})

function configOf(vars: string, image: string): MachineConfig {
  return {
    memory: 512 << 20,
    accel: 'tcg',
    cpus: 2,
    machine: { type: 'q35', options: { smm: true, secureFlash: true } },
    drives: [
      { id: 'code', file: join(guestFiles.ovmf, secureCode), readOnly: true, format: 'raw' },
      { id: 'vars', file: vars, format: 'raw' },
      { id: 'disk', file: image, format: 'raw' },
    ],
    flash: ['code', 'vars'],
    plug: [{ driver: 'ide-hd', properties: { drive: 'disk' } }],
  }
}

long('a state saved within the mode goes on in another machine, and Linux starts', async (t) => {
  t.timeout(900_000)
  await withFolder(async (folder) => {
    const { vars, image } = secureFiles(folder, store)
    const random = seeded(0x5e55)
    const states: MachineState[] = []
    {
      await using vm = await VirtualMachine.start(configOf(vars, image))
      // Long before Linux is up: the firmware's variables are written at its start.
      for (let i = 0; i < 200 && states.length < 5; i++) {
        await new Promise((resolve) => setTimeout(resolve, 20 + 60 * random()))
        await vm.pause()
        const state = await vm.saveState()
        if (state.vcpus.some(({ events }) => events[EVENTS_SMM] !== 0)) states.push(state)
        await vm.resume()
      }
    }
    t.true(states.length > 1, 'a firmware that writes its variables is in the mode now and then')
    for (const [i, state] of states.entries()) {
      const own = join(folder, `vars${i}`)
      copyFileSync(vars, own)
      await using other = new VirtualMachine({ ...configOf(own, image), startPaused: true })
      await other.start()
      await other.loadState(state)
      await other.resume()
      await t.notThrowsAsync(other.expect(/up after [^]* # /, { timeoutMs: bootTimeoutMs }))
    }
  })
})

long(
  'firmware that has SMIs go to all, but not to processors that come, refuses them',
  async (t) => {
    t.timeout(300_000)
    await withFolder(async (folder) => {
      const path = join(folder, 'qmp')
      const socket = ['-qmp', `unix:${path},server=on,wait=off`]
      const args = secureMachine(secureFiles(folder, store), '-smp', '1,maxcpus=2', ...socket)
      await withGuest(args, async (guest) => {
        while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 10))
        const qmp = await machineProtocol(path)
        try {
          await qmp.ask('qmp_capabilities')
          const place = { 'socket-id': 0, 'core-id': 1, 'thread-id': 0 }
          const processor = { driver: 'qemu64-x86_64-cpu', id: 'c1', ...place }
          await t.throwsAsync(qmp.ask('device_add', processor), {
            message: /^GenericError: cpu hotplug with SMI wasn't enabled by firmware/,
          })
          t.regex(await guest.shell('cat /sys/devices/system/cpu/present'), /^0\s/)
        } finally {
          qmp.close()
        }
        guest.type('poweroff -f\n')
        t.is((await guest.end()).code, 0)
      })
    })
  },
)
