// CDs of others: GRUB's rescue, Debian's installer, memtest86+. Only `npm run test:guests` has them.
import { join } from 'node:path'
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { MachineConfig } from 'qemu-vmm'
import { withFolder } from '../../src/disk.ts'
import { guestFiles } from '../../src/guest.ts'
import { rows, shows } from '../../src/screen.ts'
import { uefiFlash } from '../../src/uefi.ts'

const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip

/** With less the installer's first dialog says that it goes on without other languages. */
const installerMib = 1024

/** A machine with a screen and this CD in its drive: at the IDE controller of pc, at the SATA controller of q35. */
function machine(board: 'pc' | 'q35', memoryMib: number, name: string): MachineConfig {
  const file = join(guestFiles.cds, `${name}.iso`)
  return {
    memory: memoryMib << 20,
    machine: { type: board, options: { graphics: true } },
    firmwareFolders: [guestFiles.firmware],
    drives: [{ id: 'cd', file, format: 'raw', readOnly: true }],
    plug: [
      { driver: 'VGA', properties: {} },
      { driver: 'ide-cd', properties: { drive: 'cd' } },
    ],
  }
}

for (const board of ['pc', 'q35'] as const) {
  wanted(`GRUB's rescue CD shows its menu on ${board} and takes commands`, async (t) => {
    t.timeout(600_000)
    await using vm = await VirtualMachine.start(machine(board, 64, 'rescue'))
    t.log(rows(await shows(vm, /GNU GRUB {2}version[^]*GNU\/Linux[^]*command-line/)))
    await vm.typeKeys('c')
    await shows(vm, /grub> *$/m)
    await vm.typeKeys('ls\n')
    const listed = await shows(vm, /^grub> ls *\n[^]*^grub> *$/m)
    t.log(rows(listed))
    t.regex(listed, /^\(cd\) /m)
  })

  wanted(`the installer's CD comes to its first dialogs on ${board}`, async (t) => {
    t.timeout(900_000)
    await using vm = await VirtualMachine.start(machine(board, installerMib, 'installer'))
    t.log(rows(await shows(vm, /Select a language[^]*English[^]*<Go Back>/, 600_000)))
    await vm.sendKeys(['ret'])
    const next = await shows(vm, /Select your location[^]*<Go Back>/, 600_000)
    t.log(rows(next))
    t.regex(next, /United Kingdom/)
  })
}

wanted("UEFI firmware starts the installer's CD", async (t) => {
  t.timeout(900_000)
  await withFolder(async (folder) => {
    const config = machine('q35', installerMib, 'installer')
    const { drives, flash } = uefiFlash(folder, '_4M')
    await using vm = await VirtualMachine.start({
      ...config,
      drives: [...(config.drives ?? []), ...drives],
      flash,
    })
    const shown = await vm.expect(/Select a language[^]*English[^]*<Go Back>/, {
      timeoutMs: 600_000,
    })
    t.regex(shown, /GRUB loads the installer/)
  })
})

for (const [name, bits] of [
  ['memtest', 64],
  ['memtest32', 32],
] as const) {
  wanted(`memtest86+ with ${bits} bits finds no error in its first pass`, async (t) => {
    t.timeout(1_800_000)
    await using vm = await VirtualMachine.start(machine('pc', 16, name))
    const screen = await shows(vm, /Pass: +1\b/, 1_700_000)
    t.log(rows(screen))
    t.regex(screen, /Memtest86\+ v6/)
    t.regex(screen, /Errors: +0\b/)
  })
}
