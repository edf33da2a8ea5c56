// Devices that are taken out of ports of q35 while the guest uses them: a disk that is written to, a card with traffic.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { ext4Disk, inspect, withFolder } from '../src/disk.ts'
import { bootArguments, guestFiles, withGuest } from '../src/guest.ts'
import { machineProtocol } from '../src/qmp.ts'

test('the guest loses what it uses, and nothing else', async (t) => {
  await withFolder(async (folder) => {
    const filename = ext4Disk(folder, 'disk', 16)
    const path = join(folder, 'qmp')
    const port = (n: number): string[] => ['-device', `pcie-root-port,id=p${n},chassis=1,slot=${n}`]
    const board = ['-M', 'q35', '-nic', 'none', ...port(1), ...port(2)]
    const socket = ['-qmp', `unix:${path},server=on,wait=off`]
    const boot = bootArguments({ memoryMib: 256, initrd: guestFiles.diskInitrd })
    const args = [...boot, ...board, ...socket]
    await withGuest(args, async (guest) => {
      while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 10))
      const qmp = await machineProtocol(path)
      try {
        await qmp.ask('qmp_capabilities')
        await qmp.ask('blockdev-add', { driver: 'file', 'node-name': 'f', filename })
        await qmp.ask('blockdev-add', { driver: 'qcow2', 'node-name': 'q', file: 'f' })
        await qmp.ask('netdev_add', { type: 'user', id: 'lan' })
        const disk = { driver: 'virtio-blk-pci', id: 'disk', drive: 'q', bus: 'p1' }
        const card = { driver: 'virtio-net-pci', id: 'card', netdev: 'lan', bus: 'p2' }
        for (const round of [1, 2]) {
          await qmp.ask('device_add', disk)
          await guest.shell('until [ -b /dev/vda ]; do sleep 0.1; done; mkdir -p /mnt')
          await guest.shell('mount -t ext4 /dev/vda /mnt')
          const write = 'dd if=/dev/zero of=/mnt/f bs=64k count=100 conv=fsync 2>/dev/null'
          await guest.shell(`(while ${write}; do :; done) & sleep 1`)
          await qmp.ask('device_del', { id: 'disk' })
          await qmp.event('DEVICE_DELETED', 'disk')
          await guest.shell('until umount /mnt; do sleep 0.1; done')
          t.notRegex(await guest.shell('ls /sys/block'), /vda/, `round ${round}`)
        }
        await qmp.ask('device_add', card)
        await guest.shell('until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done')
        await guest.shell('ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up')
        await guest.shell('(ping -i 0.01 10.0.2.2 >/dev/null 2>&1) & sleep 1')
        await qmp.ask('device_del', { id: 'card' })
        await qmp.event('DEVICE_DELETED', 'card')
        t.notRegex(await guest.shell('ls /sys/class/net'), /eth0/)
        await qmp.ask('netdev_del', { id: 'lan' })
        await qmp.ask('blockdev-del', { 'node-name': 'q' })
        await qmp.ask('blockdev-del', { 'node-name': 'f' })
        t.is(await guest.shell('dmesg | grep -ciE "call trace|bug:"'), '0\n')
      } finally {
        qmp.close()
      }
      guest.type('poweroff -f\n')
      t.is((await guest.end()).code, 0)
    })
    t.deepEqual(inspect(folder, filename), [])
  })
})
