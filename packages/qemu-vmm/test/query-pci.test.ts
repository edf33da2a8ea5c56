// What monitors tell of PCI: beside QEMU 7.2, as far as the machines are the same.
import { spawnSync } from 'node:child_process'
import test from 'ava'

import { Management } from '../src/machine/management.ts'
import { PCI_QUERY } from '../src/monitor/qmp/pci-queries.ts'
import type { DeviceOption } from '../src/devices/device-type.ts'
import { FakeMachine, monitorOf } from './fixtures/fake-machine.ts'
import { hasPeer } from './support/qtest.ts'
import { plugBoard, rootPort } from './support/plug-board.ts'
import type { PlugBoard } from './support/plug-board.ts'

const compare = hasPeer ? test : test.skip

interface Region {
  bar: number
  address?: number
}
interface Device {
  slot: number
  qdev_id: string
  irq?: number
  regions: Region[]
  pci_bridge?: { bus: { secondary: number }; devices?: Device[] }
}

const PLUG: readonly DeviceOption[] = [
  { driver: 'virtio-balloon-pci', id: 'b', properties: { addr: '5' } },
  { driver: 'virtio-rng-pci', properties: { addr: '6' } },
  { driver: 'virtio-blk-pci', id: 'disk', properties: { drive: 'd0', addr: '7' } },
]

function managed({ board, tree, drives, places }: PlugBoard): Management {
  return new Management(64 << 20, {} as never, {
    board,
    tree,
    drives,
    places,
    objects: {} as never,
    cpuType: '',
  })
}

async function told(management: Management): Promise<Device[]> {
  const machine = new FakeMachine()
  machine.answers = { pci: management.pci() }
  const context = { machine, facts: { type: 'pc' } } as never
  const [bus] = (await PCI_QUERY.run(context, {})) as [{ devices: Device[] }]
  return bus.devices
}

/** Without what firmware has a say in, and without ROMs, which are files of the host. */
function comparable(devices: readonly Device[]): unknown {
  return devices.map(({ irq: _irq, regions, ...rest }) => ({
    ...rest,
    regions: regions.filter(({ bar }) => bar < 6).map(({ address: _at, ...region }) => region),
  }))
}

compare('query-pci tells what QEMU tells of the same machine', async (t) => {
  const ours = await told(managed(await plugBoard('i440fx', PLUG)))
  const words = PLUG.flatMap(({ driver, id, properties: { drive: _drive, ...rest } }) => {
    const disk = driver === 'virtio-blk-pci' ? ['drive=d0'] : []
    const named = id === undefined ? [] : [`id=${id}`]
    const others = Object.entries(rest).map(([key, value]) => `${key}=${value}`)
    return ['-device', [driver, ...named, ...others, ...disk].join(',')]
  })
  const drive = ['-drive', 'driver=null-co,size=64k,if=none,id=d0,read-zeroes=on']
  const { stdout } = spawnSync(
    'qemu-system-x86_64',
    ['-M', 'pc', '-S', '-nodefaults', '-display', 'none', '-qmp', 'stdio', ...drive, ...words],
    {
      encoding: 'utf8',
      input: '{"execute":"qmp_capabilities"}{"execute":"query-pci"}{"execute":"quit"}',
      timeout: 20_000,
    },
  )
  const line = stdout.split('\n').find((text) => text.includes('"class_info"')) ?? ''
  const theirs = (JSON.parse(line) as { return: [{ devices: Device[] }] }).return[0].devices
  t.deepEqual(comparable(ours), comparable(theirs))
})

test('what is behind a port is told with its bus, and where everything answers', async (t) => {
  const machine = await plugBoard('q35', [
    rootPort('p1', 1),
    { driver: 'virtio-rng-pci', id: 'r', properties: { bus: 'p1' } },
  ])
  const management = managed(machine)
  const devices = await told(management)
  const port = devices.find(({ qdev_id: id }) => id === 'p1')
  t.truthy(port?.pci_bridge)
  const rng = port?.pci_bridge?.devices?.[0]
  t.is(rng?.qdev_id, 'r')
  t.true(rng!.regions.every(({ address }) => address! > 0))
  const fake = new FakeMachine()
  fake.answers = { pci: management.pci() }
  const text = await monitorOf(fake)('info pci')
  t.regex(text, /PCI bridge: PCI device 1b36:000c\n/)
  t.regex(text, /secondary bus 1\.\n[^]*IO range \[0x[^]*id "p1"\n {2}Bus {2}1, device {3}0/)
  t.regex(
    text,
    /BAR4: 64 bit prefetchable memory at 0x[0-9a-f]{8,} \[0x[0-9a-f]{8,}\]\.\n {6}id "r"/,
  )
})

test('a guest that does not sleep is not woken up', async (t) => {
  const management = managed(await plugBoard('i440fx'))
  t.throws(() => management.wakeUp(), {
    code: 'E_INVALID_STATE',
    message: 'Unable to wake up: guest is not in suspended state',
  })
})
