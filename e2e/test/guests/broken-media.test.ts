// Media that are not as they should be, and many of them: firmware and boot loaders say what is wrong, and nothing hangs.
import { copyFileSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { DeviceOption, DriveConfig, MachineConfig } from 'qemu-vmm'
import { bootDisk } from '../../src/boot-sector.ts'
import { must, withFolder } from '../../src/disk.ts'
import { guestFiles, imageCommand } from '../../src/guest.ts'
import { rows, shows } from '../../src/screen.ts'

const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip

/** A drive, and what it is at. */
interface Disk {
  readonly drive: DriveConfig
  readonly device: DeviceOption
}

/** A machine with a screen and these disks. */
function machine(disks: readonly Disk[], more: Partial<MachineConfig> = {}): MachineConfig {
  return {
    memory: 128 << 20,
    machine: { type: 'pc', options: { graphics: true } },
    firmwareFolders: [guestFiles.firmware],
    ...more,
    drives: disks.map(({ drive }) => drive),
    plug: [
      { driver: 'VGA', properties: {} },
      ...(more.plug ?? []),
      ...disks.map(({ device: { driver, properties }, drive: { id } }) => ({
        driver,
        properties: { ...properties, drive: id },
      })),
    ],
  }
}

/** Offset of the first partition in the boot sector, and of its first sector in there. */
const tableAt = 0x1be
const startAt = tableAt + 8
/** The kind of a partition that has others in it. */
const extended = 5

/** What is done to a boot sector. GRUB is behind it, and finds no menu then. */
const tables: Record<string, (sector: Buffer) => void> = {
  'no partitions': (sector) => sector.fill(0, tableAt, 510),
  'a partition beyond the end': (sector) => sector.writeUInt32LE(0xf000_0000, startAt),
  'a partition that contains itself': (sector) => {
    sector[tableAt + 4] = extended
    sector.writeUInt32LE(0, startAt)
  },
}

for (const [name, harm] of Object.entries(tables)) {
  wanted(`a disk with ${name} leaves GRUB at its prompt`, async (t) => {
    t.timeout(600_000)
    await withFolder(async (folder) => {
      const image = join(folder, 'disk')
      must(imageCommand, ['convert', '-O', 'raw', guestFiles.bootDisk, image])
      const disk = readFileSync(image)
      harm(disk.subarray(0, 512))
      writeFileSync(image, disk)
      for (const driver of ['ide-hd', 'virtio-blk-pci']) {
        const device = { driver, properties: {} }
        const config = machine([{ drive: { id: 'd', file: image, format: 'raw' }, device }])
        await using vm = await VirtualMachine.start(config)
        await shows(vm, /^grub> *$/m)
        await vm.typeKeys('ls\n')
        await shows(vm, /^grub> ls *\n[^]*^grub> *$/m)
        await vm.typeKeys('ls (hd0,msdos1)/\n')
        const screen = await shows(vm, /^error: .+\.[^]*^grub> *$/m)
        t.log(rows(screen))
        t.regex(screen, /\(hd0\)/)
      }
    })
  })
}

/** A copy of a CD of which only `part` is there. */
function cut(folder: string, name: string, part: number): string {
  const file = join(folder, `${name}.iso`)
  copyFileSync(join(guestFiles.cds, `${name}.iso`), file)
  truncateSync(file, Math.floor(statSync(file).size * part))
  return file
}

for (const type of ['pc', 'q35'] as const) {
  wanted(`firmware, GRUB or the kernel on ${type} says what a cut CD lacks`, async (t) => {
    t.timeout(600_000)
    const start = (file: string, memory: number = 128 << 20): Promise<VirtualMachine> => {
      const device = { driver: 'ide-cd', properties: {} }
      const drive = { id: 'cd', file, format: 'raw', readOnly: true } as const
      return VirtualMachine.start(
        machine([{ drive, device }], { memory, machine: { type, options: { graphics: true } } }),
      )
    }
    await withFolder(async (folder) => {
      for (const part of [0.5, 0.01, 0.0001]) {
        await using vm = await start(cut(folder, 'rescue', part))
        const screen = await shows(vm, /No bootable device\./)
        t.log(rows(screen))
        t.regex(screen, /Boot failed: Could not read from CDROM/)
      }
      {
        // Of this one GRUB is there, and finds no menu. A file goes on behind the end.
        await using vm = await start(cut(folder, 'installer', 0.2))
        await shows(vm, /^grub> *$/m)
        await vm.typeKeys('linux (cd)/linux\n')
        t.log(rows(await shows(vm, /linux \(cd\)\/linux[^]*error: .+\.[^]*^grub> *$/m)))
      }
      // Of half of it the kernel is there, and part of its first file system: GRUB goes on all the same.
      await using vm = await start(cut(folder, 'installer', 0.5), 512 << 20)
      const screen = await shows(vm, /Kernel panic[^]*No working init found/)
      t.log(rows(screen))
      t.regex(screen, /Initramfs unpacking failed/)
    })
  })
}

wanted('SeaBIOS finds all disks of all controllers, and boots any', async (t) => {
  t.timeout(600_000)
  await withFolder(async (folder) => {
    const disk = (id: string, driver: string, properties: Record<string, string> = {}): Disk => {
      const file = join(folder, id)
      writeFileSync(file, bootDisk(`This is ${id}.`, ''))
      return { drive: { id, file, format: 'raw' }, device: { driver, properties } }
    }
    const disks = [
      ...[0, 1, 2, 3].map((i) =>
        disk(`ide${i}`, 'ide-hd', { bus: `ide.${i >> 1}`, unit: String(i & 1) }),
      ),
      disk('sata0', 'ide-hd', { bus: 'sata.0' }),
      disk('sata5', 'ide-hd', { bus: 'sata.5' }),
      disk('virtio', 'virtio-blk-pci'),
    ]
    const config = machine(disks, {
      plug: [{ driver: 'ahci', id: 'sata', properties: {} }],
      boot: { menu: true, splashTime: 60_000 },
      // What it says stays on the screen when it has turned itself off.
      shutdownAction: 'pause',
    })
    for (const [name, entry] of [
      ['ide3', /(\d)\. ata1-1/],
      ['sata5', /(\d)\. AHCI\/5/],
      ['virtio', /(\d)\. Virtio/],
    ] as const) {
      await using vm = await VirtualMachine.start(config)
      await shows(vm, /Press ESC for boot menu/)
      await vm.sendKeys(['esc'])
      const list = await shows(vm, /Select boot device:[^]*^7\. /m)
      t.log(rows(list))
      t.is([...list.matchAll(/^\d\. (ata\d-\d|AHCI\/\d|Virtio disk)/gm)].length, 7, list)
      await vm.typeKeys(entry.exec(list)?.[1] ?? '')
      t.regex(await shows(vm, /This is \w+\./), new RegExp(`This is ${name}\\.`))
      while (vm.status !== 'shutdown') await setTimeout(20)
    }
  })
})
