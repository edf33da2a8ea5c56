// The machine q35 through its firmware: SeaBIOS and GRUB, a disk at the SATA controller, UEFI with variables that stay.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { bootDisk } from '../src/boot-sector.ts'
import { withFolder } from '../src/disk.ts'
import { GuestProcess, bootArguments, command, guestFiles, withGuest } from '../src/guest.ts'
import { keepsVariables } from '../src/uefi.ts'

const board = ['-M', 'q35', '-L', guestFiles.firmware]

test.serial('SeaBIOS and GRUB boot a disk, and Linux finds PCI Express', async (t) => {
  const drive = `file=${guestFiles.bootDisk},if=none,id=d,snapshot=on`
  const port = 'pcie-root-port,id=port,slot=1,chassis=1'
  const args = ['-m', '256', '-nographic', '-vga', 'none', '-drive', drive, '-device', port]
  await withGuest(
    [...board, ...args, '-device', 'virtio-blk-pci,drive=d,bus=port'],
    async (guest) => {
      t.regex(
        await guest.shell('cat /sys/class/dmi/id/product_name'),
        /^Standard PC \(Q35 \+ ICH9, 2009\)$/m,
      )
      const log = await guest.shell('dmesg')
      t.regex(log, /MCFG 0x[0-9A-F]+ .*BOCHS {2}BXPC/)
      t.regex(log, /MMCONFIG at \[mem 0xb0000000-0xbfffffff\] reserved/)
      // ACPI has the port's slot, as on QEMU, and the guest is told so.
      t.regex(log, /platform does not support \[PCIeHotplug LTR\]/)
      t.regex(log, /acpiphp: Slot \[0\] registered/)
      t.notRegex(log, /can't claim|no compatible bridge window|failed to assign/)
      const slots = await guest.shell(
        'cd /sys/bus/pci/devices; for d in *; do echo $d $(cat $d/device); done',
      )
      t.regex(slots, /00:00\.0 0x29c0[^]*00:1f\.0 0x2918[^]*00:1f\.2 0x2922[^]*01:00\.0 0x1042/)
      t.regex(await guest.shell('cat /proc/interrupts'), /PCI-MSI.*virtio0-req\.0/)
      guest.type('poweroff -f\n')
      t.deepEqual(await guest.end(), { code: 0, signal: null })
    },
  )
})

test.serial('SeaBIOS boots a disk at the SATA controller', async (t) => {
  await withFolder(async (folder) => {
    const image = join(folder, 'disk')
    writeFileSync(image, bootDisk('Here is the boot sector.', 'Here is the one behind it.'))
    const guest = new GuestProcess(command, [
      ...board,
      '-m',
      '64',
      '-nographic',
      '-vga',
      'none',
      '-drive',
      `file=${image},format=raw`,
    ])
    try {
      await guest.expect(/Here is the boot sector\.\s+Here is the one behind it\.\s+written/)
      t.is((await guest.end()).code, 0)
    } finally {
      await guest.kill()
    }
  })
})

test.serial('a kernel starts without firmware, and powers off', async (t) => {
  await withGuest(['-M', 'q35', ...bootArguments()], async (guest) => {
    t.regex(await guest.shell('cat /proc/iomem'), /b0000000-bfffffff : PCI MMCONFIG/)
    guest.type('poweroff -f\n')
    t.is((await guest.end()).code, 0)
  })
})

test.serial('UEFI firmware reads a disk, and keeps its variables', (t) =>
  keepsVariables(t, 'q35', ''),
)
