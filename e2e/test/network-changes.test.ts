// Networks of a machine that runs: cables that are pulled out, cards that come and go, and what a capture shows.
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { bootArguments, guestFiles, withGuest } from '../src/guest.ts'
import { machineProtocol } from '../src/qmp.ts'

const boot = bootArguments({ memoryMib: 192, initrd: guestFiles.diskInitrd })

/** The Ethernet types of the frames in a capture, each once; throws for what is no capture. */
function typesIn(path: string): Set<number> {
  const file = readFileSync(path)
  if (file.readUInt32LE(0) !== 0xa1b2c3d4) throw new Error('no capture')
  const types = new Set<number>()
  let at = 24
  while (at < file.length) {
    types.add(file.readUInt16BE(at + 16 + 12))
    at += 16 + file.readUInt32LE(at + 8)
  }
  if (at !== file.length) throw new Error('the last frame is cut off')
  return types
}

test.serial('a cable, a second card, its filter and a capture, by QMP', async (t) => {
  await withFolder(async (folder) => {
    const [path, capture] = [join(folder, 'qmp'), join(folder, 'capture')]
    const args = [
      ...boot,
      '-qmp',
      `unix:${path},server=on,wait=off`,
      '-nic',
      'user,model=virtio,id=first',
      '-object',
      `filter-dump,id=dump,netdev=first,file=${capture}`,
    ]
    await withGuest(args, async (guest) => {
      const qmp = await machineProtocol(path)
      try {
        await qmp.ask('qmp_capabilities')
        await guest.shell('ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up')
        const carrier = 'cat /sys/class/net/eth0/carrier'
        t.is(await guest.shell(carrier), '1\n')
        await qmp.ask('set_link', { name: 'first', up: false })
        t.is(await guest.shell(carrier), '0\n')
        t.regex(await guest.shell('ping -c 1 -W 1 10.0.2.2'), /100% packet loss/)
        await qmp.ask('set_link', { name: 'first', up: true })
        t.regex(await guest.shell('ping -c 2 10.0.2.2'), / 0% packet loss/)
        await qmp.ask('object-del', { id: 'dump' })
        const types = typesIn(capture)
        t.true(types.has(0x0806) && types.has(0x0800), [...types].join())

        await qmp.ask('netdev_add', { type: 'user', id: 'late', net: '10.7.0.0/24' })
        const card = {
          driver: 'virtio-net-pci',
          id: 'card',
          netdev: 'late',
          mac: '02:00:00:00:00:07',
        }
        await qmp.ask('device_add', card)
        await guest.shell('until [ -e /sys/class/net/eth1 ]; do sleep 0.1; done')
        await guest.shell('ip addr add 10.7.0.15/24 dev eth1; ip link set eth1 up')
        t.regex(await guest.shell('ping -c 2 10.7.0.2'), / 0% packet loss/)
        const [filter] = (await qmp.ask('query-rx-filter', { name: 'card' })) as object[]
        t.like(filter, { name: 'card', 'main-mac': '02:00:00:00:00:07', promiscuous: false })
        await t.throwsAsync(qmp.ask('set_link', { name: 'nothing', up: true }), {
          message: /^DeviceNotFound: Device 'nothing' not found/,
        })
        await qmp.ask('device_del', { id: 'card' })
        await qmp.event('DEVICE_DELETED', 'card')
        await qmp.ask('netdev_del', { id: 'late' })
        await t.throwsAsync(qmp.ask('netdev_del', { id: 'late' }), { message: /^DeviceNotFound/ })
      } finally {
        qmp.close()
      }
    })
  })
})

test.serial('frames that are held back, or keep to a rate, all arrive', async (t) => {
  const body = randomBytes(4 << 20)
  const md5 = createHash('md5').update(body).digest('hex')
  const server = createServer((_request, response) => response.end(body)).listen(0, '127.0.0.1')
  t.teardown(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await withFolder(async (folder) => {
    const path = join(folder, 'qmp')
    const control = ['-qmp', `unix:${path},server=on,wait=off`]
    await withGuest([...boot, ...control, '-nic', 'user,model=virtio,id=n'], async (guest) => {
      const qmp = await machineProtocol(path)
      try {
        await qmp.ask('qmp_capabilities')
        await guest.shell('ip addr add 10.0.2.15/24 dev eth0; ip link set eth0 up')
        const rate = { average: 4 << 20, burst: 1 << 20 }
        for (const filter of [
          { 'qom-type': 'filter-throttle', ...rate, queue: 'all' },
          { 'qom-type': 'filter-throttle', ...rate, queue: 'rx' },
          { 'qom-type': 'filter-buffer', interval: 5000, queue: 'all' },
        ]) {
          await qmp.ask('object-add', { ...filter, id: 'f', netdev: 'n' })
          const before = performance.now()
          const fetched = await guest.shell(`wget -q -O - http://10.0.2.2:${port}/ | md5sum`)
          t.is(fetched.split(' ')[0], md5)
          const kib = body.length / 1.024 / (performance.now() - before)
          t.log(`${filter['qom-type']} ${filter.queue}: ${Math.round(kib)} KiB/s`)
          t.regex(await guest.shell('ping -c 3 10.0.2.2'), / 0% packet loss/)
          await qmp.ask('object-del', { id: 'f' })
        }
        t.regex(await guest.shell('ping -c 1 10.0.2.2'), / 0% packet loss/)
      } finally {
        qmp.close()
      }
    })
  })
})
