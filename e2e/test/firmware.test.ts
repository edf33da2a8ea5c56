// Boots through SeaBIOS: boot sectors, option ROMs, GRUB, and what a guest sees of the firmware.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { MachineConfig } from 'qemu-vmm'
import { bootDisk, optionRom, sectorBytes } from '../src/boot-sector.ts'
import { withFolder } from '../src/disk.ts'
import type { GuestProcess } from '../src/guest.ts'
import { guestFiles, prompt, withGuest, withMachine } from '../src/guest.ts'

/** Options of a machine that boots a raw image, or several, through firmware. */
function machine(images: readonly string[], ...more: string[]): string[] {
  const drives = images.flatMap((file) => ['-drive', `file=${file},if=virtio,format=raw`])
  // What boots from the network has tests of its own, and tries for long where nothing else boots.
  const folder = ['-L', guestFiles.firmware, '-net', 'none']
  return ['-m', '64', '-nographic', ...folder, ...drives, ...more]
}

for (const without of ['legacy', 'modern']) {
  test.serial(`a boot sector uses the BIOS, and a disk without its ${without} half`, async (t) => {
    await withFolder(async (folder) => {
      const image = join(folder, 'disk')
      writeFileSync(image, bootDisk('Here is the boot sector.', 'Here is the one behind it.'))
      const drive = `file=${image},if=none,format=raw,id=d`
      const device = `virtio-blk-pci,drive=d,disable-${without}=on`
      const args = machine([], '-drive', drive, '-device', device)
      await withMachine(args, async (guest) => {
        await guest.expect(/SeaBIOS \(version/)
        await guest.expect(/Booting from Hard Disk/)
        await guest.expect(/Here is the boot sector\.\s+Here is the one behind it\.\s+written/)
        t.deepEqual(await guest.end(), { code: 0, signal: null })
      })
      const sectors = readFileSync(image)
      const [second, third] = [1, 2].map((n) =>
        sectors.subarray(n * sectorBytes, (n + 1) * sectorBytes),
      )
      t.deepEqual(third, second)
    })
  })
}

test.serial(
  'firmware says that there is nothing to boot, and tries again when asked',
  async (t) => {
    await withFolder(async (folder) => {
      const image = join(folder, 'disk')
      writeFileSync(image, new Uint8Array(1 << 20))
      const nothing = /Boot failed: not a bootable disk[^]*No bootable device\./
      await withMachine(machine([image]), async (guest) => {
        await guest.expect(nothing)
        guest.type('\u0001x')
        t.is((await guest.end()).code, 0)
      })
      // The first reset is the guest's, which ends the machine here.
      const again = ['-boot', 'reboot-timeout=100', '-no-reboot']
      await withMachine(machine([image], ...again), async (guest) => {
        await guest.expect(nothing)
        t.deepEqual(await guest.end(), { code: 0, signal: null })
      })
      await withMachine(machine([]), async (guest) => {
        await guest.expect(/No bootable device\./)
        guest.type('\u0001x')
        t.is((await guest.end()).code, 0)
      })
    })
  },
)

test.serial('bootindex chooses among disks, and the menu asks', async (t) => {
  await withFolder(async (folder) => {
    const images = ['first', 'second'].map((name) => join(folder, name))
    for (const image of images) {
      writeFileSync(image, bootDisk(`This is the ${image.endsWith('first') ? 1 : 2}. disk`, ''))
    }
    const drives = images.flatMap((file, i) => {
      const drive = `file=${file},if=none,format=raw,id=d${i}`
      return ['-drive', drive, '-device', `virtio-blk-pci,drive=d${i},bootindex=${2 - i}`]
    })
    const seen: string[] = []
    const see = async (guest: GuestProcess): Promise<void> => {
      seen.push(await guest.expect(/This is the \d\. disk/))
      t.is((await guest.end()).code, 0)
    }
    await withMachine(machine(images), see)
    await withMachine(machine([], ...drives), see)
    await withMachine(
      machine([], ...drives, '-boot', 'menu=on,splash-time=60000'),
      async (guest) => {
        await guest.expect(/Press ESC for boot menu/)
        guest.type('\u001b')
        const menu = await guest.expect(/Select boot device:[^]*2\. [^]*\n/)
        t.regex(menu, /1\. Virtio disk PCI:0[^]*2\. Virtio disk PCI:0/)
        guest.type('2')
        await see(guest)
      },
    )
    t.deepEqual(
      seen.map((text) => /\d(?=\. disk)/.exec(text)?.[0]),
      ['1', '2', '1'],
    )
  })
})

test.serial('firmware that waits for a key goes on in another machine', async (t) => {
  await withFolder(async (folder) => {
    const file = join(folder, 'disk')
    writeFileSync(file, bootDisk('booted', ''))
    const config: MachineConfig = {
      memory: 64 << 20,
      accel: 'tcg',
      firmwareFolders: [guestFiles.firmware],
      boot: { menu: true, splashTime: 60_000 },
      drives: [{ id: 'd', file, format: 'raw', snapshot: true }],
      plug: [{ driver: 'virtio-blk-pci', properties: { drive: 'd' } }],
      log: () => {},
    }
    await using first = await VirtualMachine.start(config)
    await first.expect('Press ESC for boot menu')
    const state = await first.saveState()
    await using second = await VirtualMachine.start({ ...config, startPaused: true })
    await second.loadState(structuredClone(state))
    await second.resume()
    second.type('\u001b')
    await second.expect('1. Virtio disk')
    second.type('1')
    await second.expect('booted')
    t.like(await second.exited, { reason: 'shutdown', guest: true })
    t.is(first.status, 'running')
  })
})

test.serial('firmware runs the option ROM of a device', async (t) => {
  await withFolder(async (folder) => {
    const [image, rom] = [join(folder, 'disk'), join(folder, 'rom')] as const
    writeFileSync(image, bootDisk('booted', ''))
    writeFileSync(rom, optionRom(0x1af4, 0x1005, 'The option ROM runs.\r\n'))
    // One that firmware has no driver for: it runs no others.
    const device = `virtio-rng-pci,romfile=${rom}`
    await withMachine(machine([image], '-device', device), async (guest) => {
      await guest.expect(/The option ROM runs\.[^]*Booting from Hard Disk[^]*booted/)
      t.is((await guest.end()).code, 0)
    })
    await withMachine(machine([image], '-option-rom', rom), async (guest) => {
      await guest.expect(/The option ROM runs\.[^]*Booting from Hard Disk[^]*booted/)
      t.is((await guest.end()).code, 0)
    })
  })
})

test.serial('GRUB loads Linux from a disk, which finds what firmware left', async (t) => {
  await withFolder(async (folder) => {
    const drive = `file=${guestFiles.bootDisk},if=virtio,snapshot=on`
    const messages = join(folder, 'messages')
    const debug = ['-chardev', `file,id=d,path=${messages}`]
    debug.push('-device', 'isa-debugcon,iobase=0x402,chardev=d')
    const args = [
      '-m',
      '256',
      '-smp',
      '2',
      '-nographic',
      '-L',
      guestFiles.firmware,
      '-drive',
      drive,
    ]
    await withGuest([...args, ...debug], async (guest) => {
      t.regex(guest.output, /SeaBIOS \(version[^]*Booting from Hard Disk[^]*GRUB/)
      t.regex(await guest.shell('mount'), /^\/dev\/(root|vda1) on \/ type ext4/m)
      t.is((await guest.shell('nproc')).trim(), '2')
      const log = await guest.shell('dmesg')
      t.regex(log, /DMI: QEMU Standard PC \(i440FX \+ PIIX, 1996\), BIOS \S+ 04\/01\/2014/)
      t.regex(log, /ACPI: RSDP 0x0+F\w{4} 000024 \(v02 BOCHS \)/)
      t.regex(log, /ACPI: DSDT 0x0+\w+ \w+ \(v01 BOCHS  BXPC/)
      t.regex(log, /BIOS-e820: \[mem 0x00000000fffc0000-0x00000000ffffffff\] reserved/)
      t.notRegex(log, /BIOS bug|Firmware Bug|ACPI Error|ACPI BIOS Error/i)
      t.regex(await guest.shell('cat /proc/interrupts'), /PCI-MSI.*virtio0-req/)
      // Firmware finds the waking vector, and starts the other processor.
      await guest.shell('echo kept > /tmp/file; echo +2 > /sys/class/rtc/rtc0/wakealarm')
      t.is(await guest.shell('echo mem > /sys/power/state; cat /tmp/file'), 'kept\n')
      const resume = await guest.shell('dmesg | grep -E "PM: suspend|Low-level resume|CPU1 is up"')
      t.regex(resume, /suspend entry \(deep\)[^]*Low-level resume[^]*CPU1 is up[^]*suspend exit/)
      // A reset goes through the firmware again.
      guest.type('reboot -f\n')
      await guest.expect(/SeaBIOS \(version/)
      await guest.expect(prompt)
      guest.type('poweroff -f\n')
      t.deepEqual(await guest.end(), { code: 0, signal: null })
    })
    // Firmware that has run before finds its stack write-protected after a resume: what a reset of
    // PCI leaves must not look like that.
    t.is(readFileSync(messages, 'utf8').match(/In resume/g)?.length, 1)
  })
})
