// Disks: a root file system on qcow2, writes that survive, images that are locked or not there.
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import { diskArguments, ext4Disk, inspect, must, withFolder } from '../src/disk.ts'
import {
  GuestProcess,
  bootArguments,
  command,
  guestFiles,
  imageCommand,
  withGuest,
} from '../src/guest.ts'
import { runProgram } from '../src/program.ts'
import { seeded } from '../src/random.ts'

const long = process.env['LONG'] !== undefined
/** The long forms have a guest write and sum up half a GiB, or boot twenty of them. */
const longestMs = long ? 2 * 3_600_000 : 600_000

test.serial('two processors and a root file system on qcow2 over virtio-blk', async (t) => {
  const options = bootArguments({
    memoryMib: 256,
    initrd: guestFiles.diskInitrd,
    append: 'root=/dev/vda',
  })
  const drive = `file=${guestFiles.disk},if=virtio,snapshot=on`
  await withGuest([...options, '-smp', '2', '-drive', drive], async (guest) => {
    t.is((await guest.shell('nproc')).trim(), '2')
    t.regex(await guest.shell('mount'), /^\/dev\/(root|vda) on \/ type ext4/m)
    t.regex(await guest.shell('cat /proc/interrupts'), /PCI-MSI.*virtio0-req/)
    t.is(await guest.shell('echo kept > /root/file; sync; cat /root/file'), 'kept\n')
    const trouble = await guest.shell('dmesg | grep -iE "error|virtio.*fail|corrupt"')
    t.is(trouble, '')
  })
})

test.serial(
  'what a guest wrote to qcow2 is there, and every tool finds the image sound',
  async (t) => {
    t.timeout(longestMs)
    await withFolder(async (folder) => {
      const size = long ? 1024 : 48
      const image = ext4Disk(folder, 'disk', size)
      const sums = await withGuest(diskArguments(image), async (guest) => {
        await guest.shell('mkdir /mnt && mount -t ext4 /dev/vda /mnt && mkdir /mnt/d')
        await guest.shell('for i in 1 2 3 4; do cp -r /bin/busybox /mnt/d/$i; done')
        await guest.shell(
          `dd if=/dev/urandom of=/mnt/random bs=1M count=${size >> (long ? 1 : 3)} 2>&1`,
        )
        await guest.shell('rm /mnt/d/3; sync')
        const text = await guest.shell('cd /mnt; md5sum random d/*; cd /root; umount /mnt; echo')
        guest.type('poweroff -f\n')
        t.is((await guest.end()).code, 0)
        return text.trim()
      })
      t.deepEqual(inspect(folder, image), [])
      await withGuest(diskArguments(image, ',readonly=on'), async (guest) => {
        await guest.shell('mkdir /mnt && mount -t ext4 -o ro,noload /dev/vda /mnt')
        const text = await guest.shell('cd /mnt; md5sum random d/*; cd /root')
        t.is(text.trim(), sums)
        t.regex(await guest.shell('echo x > /dev/vda; cat /sys/block/vda/ro'), /1\n$/)
      })
    })
  },
)

test.serial('an image survives the end of the process at any moment of a write load', async (t) => {
  t.timeout(longestMs)
  const random = seeded(20_260_401)
  await withFolder(async (folder) => {
    for (let round = 0; round < (long ? 10 : 2); round++) {
      const image = ext4Disk(folder, `killed${round}`, 48)
      const guest = new GuestProcess(command, diskArguments(image))
      try {
        await guest.expect(/ # $/)
        await guest.shell('mkdir /mnt && mount -t ext4 /dev/vda /mnt')
        await guest.shell('echo flushed > /mnt/before; sync')
        guest.type('while :; do cp /bin/busybox /mnt/$((n += 1)); sync; rm /mnt/$((n - 2)); done\n')
        await new Promise((resolve) => setTimeout(resolve, 300 + random() * 3000))
      } finally {
        await guest.kill()
      }
      t.deepEqual(inspect(folder, image), [], `round ${round}`)
      await withGuest(diskArguments(image), async (second) => {
        await second.shell('mkdir /mnt && mount -t ext4 /dev/vda /mnt')
        t.is(await second.shell('cat /mnt/before'), 'flushed\n')
      })
    }
  })
})

test.serial('every kick of the driver is an ioeventfd, none a synchronous exit', async (t) => {
  const { kernel, diskInitrd: initrd, disk: file } = guestFiles
  await using vm = await VirtualMachine.start({
    memory: 256 << 20,
    kernel,
    initrd,
    append: 'console=ttyS0 quiet',
    drives: [{ id: 'd', file, format: 'qcow2', snapshot: true }],
    plug: [{ driver: 'virtio-blk-pci', properties: { drive: 'd' } }],
  })
  await vm.expect(/ # /, { timeoutMs: 300_000 })
  const before = await vm.stats()
  vm.type('dd if=/dev/vda of=/dev/null bs=64k count=500 iflag=direct 2>/dev/null; echo do""ne\n')
  await vm.expect('done', { timeoutMs: 300_000 })
  const after = await vm.stats()
  const grew = (name: string): number => (after[name] ?? 0) - (before[name] ?? 0)
  t.true(grew('virtioKicks') >= 500, String(grew('virtioKicks')))
  t.is(grew('virtioKickExits'), 0)
})

test.serial('a machine with a disk in use is saved and goes on in another', async (t) => {
  const { kernel, diskInitrd: initrd, disk: file } = guestFiles
  const config = {
    memory: 256 << 20,
    kernel,
    initrd,
    append: 'console=ttyS0 quiet root=/dev/vda ro',
    drives: [{ id: 'd', file, format: 'qcow2', readOnly: true }],
    plug: [{ driver: 'virtio-blk-pci', properties: { drive: 'd' } }],
  } as const
  await using vm = await VirtualMachine.start(config)
  await vm.expect(/ # /, { timeoutMs: 300_000 })
  vm.type('while :; do dd if=/dev/vda bs=64k count=200 iflag=direct 2>/dev/null | md5sum; done\n')
  const [, sum = ''] = /([0-9a-f]{32}) {2}-/.exec(await vm.expect(/[0-9a-f]{32} {2}-/)) ?? []
  const state = await vm.saveState()
  await using other = new VirtualMachine({ ...config, startPaused: true })
  await other.start()
  await other.loadState(state)
  await other.resume()
  t.regex(await other.expect(/([0-9a-f]{32} {2}-[^]*){3}/), new RegExp(`(${sum}  -[^]*){2}`))
  t.regex(await vm.expect(/([0-9a-f]{32} {2}-[^]*){2}/), new RegExp(`(${sum}  -[^]*){2}`))
})

test.serial('images that cannot be used are refused with the reason', async (t) => {
  await withFolder(async (folder) => {
    const image = join(folder, 'disk.qcow2')
    must(imageCommand, ['create', '-f', 'qcow2', image, '16M'])
    writeFileSync(join(folder, 'text.qcow2'), 'no image')
    mkdirSync(join(folder, 'folder'))
    const refused = async (drive: string): Promise<string> => {
      const { code, stderr } = await runProgram(command, [
        ...bootArguments({ initrd: guestFiles.diskInitrd }),
        '-drive',
        drive,
      ])
      t.is(code, 1, stderr)
      return stderr
    }
    t.regex(await refused(`file=${folder}/nowhere,if=virtio`), /nowhere.*No such file or directory/)
    t.regex(await refused(`file=${folder}/folder,if=virtio`), /folder/)
    t.regex(await refused(`file=${folder}/text.qcow2,format=qcow2,if=virtio`), /text\.qcow2|qcow2/)
    t.regex(await refused(`file=${image},if=scsi`), /if=virtio/)
    await withGuest(diskArguments(image), async () => {
      t.regex(await refused(`file=${image},if=virtio`), /Failed to get "write" lock/)
    })
  })
})
