import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { DeviceOption } from 'qemu-vmm'

import { bootTimeoutMs, guestFiles } from '../src/guest.ts'

const timeout = { timeoutMs: bootTimeoutMs }

/** A machine whose firmware has a screen and a disk at one of its controllers. */
function start(...plug: DeviceOption[]): Promise<VirtualMachine> {
  return VirtualMachine.start({
    memory: 256 << 20,
    firmwareFolders: [guestFiles.firmware],
    machine: { type: 'pc', options: { graphics: true } },
    drives: [{ id: 'd', file: guestFiles.bootDisk, snapshot: true }],
    plug: [{ driver: 'VGA', properties: {} }, ...plug],
  })
}

/** The rows of the screen that are not empty, once one matches. */
async function rows(vm: VirtualMachine, pattern: RegExp): Promise<string[]> {
  const until = performance.now() + bootTimeoutMs
  for (;;) {
    const screen = (await vm.screen()).split('\n').filter((row) => row !== '')
    if (screen.some((row) => pattern.test(row))) return screen
    if (performance.now() > until) throw new Error(`no ${String(pattern)}: ${screen.join('\n')}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

test.serial('SeaBIOS shows itself on the VGA and starts GRUB from an IDE disk', async (t) => {
  await using vm = await start({ driver: 'ide-hd', properties: { drive: 'd' } })
  const shown = await rows(vm, /^GRUB/)
  t.regex(shown[0] ?? '', /^SeaBIOS \(version/)
  t.true(shown.includes('Booting from Hard Disk...'))
  t.regex(Buffer.from(await vm.screenshot()).toString('latin1', 1, 4), /PNG/)
})

test.serial('SeaBIOS, GRUB and Linux start from a disk at an AHCI controller', async (t) => {
  await using vm = await start(
    { driver: 'ahci', id: 'sata', properties: {} },
    { driver: 'ide-hd', properties: { drive: 'd', bus: 'sata.2', bootindex: '1' } },
  )
  await rows(vm, /^GRUB/)
  // The guest has no driver for it: its initial RAM disk says so.
  t.regex(await vm.expect('here is a shell in the initramfs', timeout), /cannot mount/)
})
