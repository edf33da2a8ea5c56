// What is counted of the requests to a drive, and how monitors show it.
import { statSync, writeFileSync } from 'node:fs'
import test from 'ava'

import { Accounting } from '../src/block/accounting.ts'
import { Drives } from '../src/machine/drives.ts'
import { monitorOf } from './fixtures/fake-machine.ts'
import { openDrive } from '../src/machine/open-drive.ts'
import { temporary } from './support/disks.ts'
import { FakeDrive } from './support/fake-drive.ts'
import { createDisk } from './support/ide-driver.ts'
import { NO_STATS, negotiated } from './support/qmp-session.ts'

const NONE = NO_STATS.read

function counted(): { drive: FakeDrive; device: Accounting; clock: { now: number } } {
  const clock = { now: 1000 }
  const drive = new FakeDrive(1 << 16)
  return { drive, device: new Accounting(drive, () => clock.now), clock }
}

test('requests are counted with their bytes and times', async (t) => {
  const { drive, device, clock } = counted()
  t.deepEqual(device.stats(), NO_STATS)
  let open = (): void => {}
  drive.gate = new Promise((resolve) => {
    open = resolve
  })
  const both = [
    device.readv(0, [new Uint8Array(512), new Uint8Array(1024)]),
    device.writev(4096, [new Uint8Array(2048)]),
  ]
  t.deepEqual(device.stats(), NO_STATS, 'those under way are not')
  clock.now = 1500
  open()
  await Promise.all(both)
  clock.now = 2000
  await device.writev(0, [new Uint8Array(512)])
  await device.writeZeroes(8192, 4096, true)
  await device.flush()
  await device.discard(0, 1024)
  clock.now = 2250
  t.deepEqual(device.stats(), {
    read: { ...NONE, operations: 1, bytes: 1536, timeNs: 500 },
    write: { ...NONE, operations: 3, bytes: 6656, timeNs: 500 },
    flush: { ...NONE, operations: 1 },
    unmap: { ...NONE, operations: 1, bytes: 1024 },
    highestWrite: 12_288,
    idleNs: 250,
  })
})

test('reads at once are counted when they are answered', (t) => {
  const { drive, device } = counted()
  const target = { buffers: [new Uint8Array(512)], parts: Uint32Array.of(0, 0, 512), count: 1 }
  t.false(device.readNow(0, { ...target, length: 512 }))
  t.deepEqual(device.stats().read, NONE)
  drive.now = true
  t.true(device.readNow(0, { ...target, length: 512 }))
  t.deepEqual(device.stats().read, { ...NONE, operations: 1, bytes: 512 })
})

test('requests that fail or cannot be are counted apart', async (t) => {
  const { drive, device, clock } = counted()
  drive.error = new Error('broken')
  const failing = device.readv(0, [new Uint8Array(512)])
  clock.now = 1010
  await t.throwsAsync(failing, { message: 'broken' })
  await t.throwsAsync(device.writev(0, [new Uint8Array(512)]))
  await t.throwsAsync(device.flush())
  device.refused('unmap')
  const { read, write, flush, unmap, highestWrite } = device.stats()
  t.deepEqual(read, { ...NONE, failed: 1, timeNs: 10 })
  t.deepEqual([write.failed, flush.failed, highestWrite], [1, 1, 0])
  t.deepEqual(unmap, { ...NONE, invalid: 1 })
})

test('a disk that is asked for sectors that it does not have says so', async (t) => {
  const { device } = counted()
  const disk = createDisk(device)
  for (const [lba, command] of [
    [128, 0x20],
    [1 << 20, 0x30],
    [127, 0x20],
  ] as const) {
    disk.file.device = 0xe0
    disk.file.count = 1
    disk.file.lba28 = lba
    t.is(disk.execute(command).kind, lba === 127 ? 'transfer' : 'error')
  }
  t.deepEqual([device.stats().read.invalid, device.stats().write.invalid], [1, 1])
})

test('drives count what their devices ask, and monitors show it', async (t) => {
  const inner = Object.assign(new FakeDrive(1 << 16), {
    waiting: 0,
    retry() {},
    abandon() {},
    async close() {},
  })
  const config = { id: 'd0', file: 'f', deleteWithDevice: true }
  const drives = await Drives.open([config, { id: 'n1', file: 'g' }], async () => inner, {
    onStop() {},
    log() {},
    nowNs: () => 7,
  })
  const drive = drives.take('d0', 'vd0')
  await drive.readv(0, [new Uint8Array(1024)])
  await drive.writev(512, [new Uint8Array(512)])
  const { machine, say } = await negotiated()
  machine.open = drives.list()
  machine.answers = { blockBackends: drives.backends() }
  const [answer] = (await say('{"execute":"query-blockstats"}')) as [{ return: object[] }]
  t.is(answer.return.length, 1)
  t.like(answer.return[0], {
    device: 'd0',
    qdev: 'vd0',
    'node-name': 'd0',
    stats: {
      rd_bytes: 1024,
      rd_operations: 1,
      wr_bytes: 512,
      wr_operations: 1,
      wr_highest_offset: 1024,
      flush_operations: 0,
      account_failed: true,
      timed_stats: [],
      idle_time_ns: 0,
    },
  })
  const all = '{"execute":"query-blockstats","arguments":{"query-nodes":true}}'
  const [nodes] = (await say(all)) as [{ return: { 'node-name': string }[] }]
  t.deepEqual(
    nodes.return.map((node) => node['node-name']),
    ['d0', 'n1'],
  )
  const shown = await monitorOf(machine)('info blockstats')
  t.is(
    shown,
    'd0: rd_bytes=1024 wr_bytes=512 rd_operations=1 wr_operations=1 flush_operations=0 ' +
      'wr_total_time_ns=0 rd_total_time_ns=0 flush_total_time_ns=0 rd_merged=0 wr_merged=0 ' +
      'idle_time_ns=0\n',
  )
})

test('a size changes while nothing is under way, and what comes meanwhile waits', async (t) => {
  const { drive, device } = counted()
  const steps: string[] = []
  device.onResized = () => steps.push('told')
  let open = (): void => {}
  drive.gate = new Promise((resolve) => {
    open = resolve
  })
  const first = device.readv(0, [new Uint8Array(512)]).then(() => steps.push('first'))
  const resized = device.resize(async () => {
    steps.push('resize')
    Object.defineProperty(drive, 'sizeBytes', { value: 4096 })
  })
  const inside = device.writev(0, [new Uint8Array(512)]).then(() => steps.push('inside'))
  const behind = device.readv(4096, [new Uint8Array(512)])
  drive.now = true
  const target = { buffers: [new Uint8Array(512)], parts: Uint32Array.of(0, 0, 512), count: 1 }
  t.false(device.readNow(0, { ...target, length: 512 }))
  await t.throwsAsync(
    device.resize(async () => {}),
    { message: /being changed/ },
  )
  await new Promise((resolve) => setImmediate(resolve))
  t.deepEqual(steps, [], 'the first one is under way')
  open()
  await t.throwsAsync(behind, { message: /has become smaller/ })
  await Promise.all([first, resized, inside])
  t.deepEqual(steps.toSorted(), ['first', 'inside', 'resize', 'told'])
  t.true(device.readNow(0, { ...target, length: 512 }))
  await t.throwsAsync(
    device.resize(async () => {
      throw new Error('full')
    }),
    { message: 'full' },
  )
  t.is(steps.filter((step) => step === 'told').length, 1)
  await device.flush()
})

test('block_resize reaches the image, and the guest is told', async (t) => {
  const folder = temporary(t)
  writeFileSync(folder('disk'), new Uint8Array(1 << 20))
  const drives = await Drives.open(
    ['d', 'floppy'].map((id) => ({ id, file: folder('disk'), format: 'raw', locking: false })),
    openDrive,
    { onStop() {}, log() {}, nowNs: () => 0 },
  )
  t.teardown(() => drives.close())
  const drive = drives.take('d', 'vd')
  let told = 0
  drive.onResized = () => told++
  await drives.resize('d', (2 << 20) + 1)
  t.deepEqual([drive.sizeBytes, told, statSync(folder('disk')).size], [2_097_664, 1, 2_097_664])
  await drives.resize('d', 1 << 20)
  t.deepEqual([drive.sizeBytes, told], [1 << 20, 2])
  drives.take('floppy', 'f0')
  await t.throwsAsync(drives.resize('floppy', 1), { code: 'E_IN_USE', message: /keep their sizes/ })
  await t.throwsAsync(drives.resize('none', 1), { code: 'E_NO_DRIVE' })

  const { machine, say } = await negotiated()
  machine.open = drives.list()
  const ask = async (args: object): Promise<unknown> =>
    (await say(JSON.stringify({ execute: 'block_resize', arguments: args })))[0]
  t.deepEqual(await ask({ 'node-name': 'd', size: 512 }), { return: {} })
  t.is(machine.calls.at(-1), 'resizeDrive "d" 512')
  for (const [args, desc] of [
    [{ device: 'd', size: 512 }, "Cannot find device='d' nor node-name=''"],
    [{ 'node-name': 'x', size: 512 }, "Cannot find device='' nor node-name='x'"],
    [{ size: 512 }, "Cannot find device='' nor node-name=''"],
    [{ 'node-name': 'd', size: -1 }, "Parameter 'size' expects a >0 size"],
  ] as const) {
    t.like(await ask(args), { error: { class: 'GenericError', desc } })
  }
})
