// The Debian disk at each controller, on each board, with each firmware. Only `npm run test:guests` has the disk.
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import { type Attachment, debianMachine, debianOverlay, logIn } from '../../src/debian.ts'
import { errorMessages, kernelErrors } from '../../src/debian-shell.ts'
import { inspectImage, withFolder } from '../../src/disk.ts'
import { rows, shows } from '../../src/screen.ts'

const wanted = process.env['GUESTS'] !== undefined ? test.serial : test.skip

/** The disk's name in Linux, the PCI function that it is at, and the driver of that. */
const found = {
  pc: {
    virtio: ['vda', '0000:00:0[0-9a-f].0/virtio', 'virtio-pci'],
    ide: ['sda', '0000:00:01.1/ata', 'ata_piix'],
    ahci: ['sda', '0000:00:0[0-9a-f].0/ata', 'ahci'],
  },
  q35: {
    virtio: ['vda', '0000:00:0[0-9a-f].0/virtio', 'virtio-pci'],
    ahci: ['sda', '0000:00:1f.2/ata', 'ahci'],
  },
} as const

for (const firmware of ['SeaBIOS', 'OVMF'] as const) {
  for (const board of ['pc', 'q35'] as const) {
    for (const [attachment, [name, place, driver]] of Object.entries(found[board])) {
      wanted(`${firmware} boots Debian on ${board} from a disk at ${attachment}`, async (t) => {
        t.timeout(1_200_000)
        await withFolder(async (folder) => {
          const image = debianOverlay(folder)
          const kind = { board, firmware, attachment: attachment as Attachment }
          await using vm = await VirtualMachine.start(debianMachine(folder, image, kind))
          const { shown, shell } = await logIn(vm)
          t.log(rows(shown))
          if (firmware === 'SeaBIOS') t.log(rows(await shows(vm, /guest tty1[^]*guest login:/)))
          t.is(await shell('systemctl is-system-running --wait'), 'running\n')
          t.is(await shell('findmnt -no SOURCE /'), `/dev/${name}1\n`)
          const path = await shell(`readlink -f /sys/class/block/${name}`)
          t.regex(path, new RegExp(`/${place}`))
          const address = /(0000:00:[^/]+)\/(ata|virtio)/.exec(path)?.[1]
          const own = await shell(`readlink /sys/bus/pci/devices/${address}/driver`)
          t.is(own.trim().split('/').at(-1), driver)
          const efi =
            '[ -d /sys/firmware/efi/efivars ] && echo OVMF || cat /sys/class/dmi/id/bios_vendor'
          t.is(await shell(efi), `${firmware}\n`)
          t.deepEqual(kernelErrors(await shell(errorMessages)), [])
          t.regex(
            await shell('dd if=/dev/urandom of=/root/f bs=1M count=16 conv=fsync; md5sum </root/f'),
            /^16777216 bytes[^]*^[0-9a-f]{32}/m,
          )
          vm.type('poweroff\n')
          t.like(await vm.exited, { reason: 'shutdown', guest: true, code: 0 })
          t.deepEqual(inspectImage(image), [])
        })
      })
    }
  }
}
