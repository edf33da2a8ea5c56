import test from 'ava'
import {
  VIRTIO_CONFIG_S_FEATURES_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_VERSION_1,
  type VirtioDevice,
  VirtioError,
  VirtioMmioTransport,
  VirtioPciTransport,
  createBlk,
  createRng,
} from 'virtio'
import {
  type DriverAccess,
  FakeDriver,
  FakeMemory,
  InterruptCounter,
  RamDisk,
} from 'virtio/testing'
import { directAccess, mmioAccess, pciAccess } from 'virtio/testing'
import { blkRequest, turns } from './requests.ts'

const entropy = { fill: (target: Uint8Array): void => void target.fill(0x5a) }

interface Reached {
  access: DriverAccess
  interrupts: () => number
}

/** The ways to reach a device, with the number of interrupts so far. */
const ways: [string, (device: VirtioDevice) => Reached][] = [
  [
    'directly',
    (device) => {
      const counter = new InterruptCounter()
      device.connect(counter)
      return {
        access: directAccess(device),
        interrupts: () => counter.queues.length + counter.configs,
      }
    },
  ],
  [
    'by PCI with MSI-X',
    (device) => {
      let count = 0
      const msix = { enabled: true, vectors: 4, trigger: () => void count++ }
      const pci = new VirtioPciTransport(device, { msix, intx: { set: () => {} } })
      return { access: pciAccess(pci), interrupts: () => count }
    },
  ],
  [
    'by PCI with INTx',
    (device) => {
      let count = 0
      const msix = { enabled: false, vectors: 4, trigger: () => {} }
      const intx = { set: (level: boolean) => void (count += Number(level)) }
      return {
        access: pciAccess(new VirtioPciTransport(device, { msix, intx })),
        interrupts: () => count,
      }
    },
  ],
  [
    'by MMIO',
    (device) => {
      let count = 0
      const mmio = new VirtioMmioTransport(device, {
        set: (level) => void (count += Number(level)),
      })
      return { access: mmioAccess(mmio), interrupts: () => count }
    },
  ],
]

for (const [name, reach] of ways) {
  test(`a driver that comes ${name} gets random bytes and an interrupt`, (t) => {
    const memory = new FakeMemory()
    const device = createRng({ memory, entropy })
    const { access, interrupts } = reach(device)
    const driver = new FakeDriver(memory, access)
    driver.start()
    t.is(interrupts(), 0)
    driver.queue(0).submit([{ gpa: 0x8000, length: 100, writable: true }])
    driver.kick(0)
    t.deepEqual(
      driver
        .queue(0)
        .takeUsed()
        .map(({ written }) => written),
      [100],
    )
    t.deepEqual(
      memory.read(0x8000, 101),
      Uint8Array.from({ length: 101 }, (_, i) => (i < 100 ? 0x5a : 0)),
    )
    t.is(interrupts(), 1)
  })

  test(`random bytes that come later reach a driver that comes ${name}, but not after a reset`, async (t) => {
    const memory = new FakeMemory()
    const waiting: (() => void)[] = []
    const later = {
      async fill(target: Uint8Array): Promise<void> {
        await new Promise<void>((resolve) => waiting.push(resolve))
        target.fill(0x5a)
      },
    }
    const device = createRng({ memory, entropy: later })
    const { access, interrupts } = reach(device)
    const driver = new FakeDriver(memory, access)
    driver.start()
    const ask = (): void => {
      driver.queue(0).submit([{ gpa: 0x8000, length: 8, writable: true }])
      driver.kick(0)
    }
    ask()
    t.is(driver.queue(0).takeUsed().length, 0)
    waiting.shift()?.()
    await turns()
    t.is(driver.queue(0).takeUsed()[0]?.written, 8)
    t.is(memory.read(0x8000, 1)[0], 0x5a)
    t.is(interrupts(), 1)
    memory.write(0x8000, new Uint8Array(8))
    ask()
    device.reset()
    waiting.shift()?.()
    await turns()
    t.is(memory.read(0x8000, 1)[0], 0, 'the memory is the driver’s again')
  })

  test(`a broken ring stops a device reached ${name} until it is reset`, (t) => {
    const memory = new FakeMemory()
    const errors: unknown[] = []
    const device = createRng({ memory, entropy, onError: (error) => void errors.push(error) })
    const { access, interrupts } = reach(device)
    const driver = new FakeDriver(memory, access)
    driver.start()
    driver.queue(0).offer(0x7777)
    access.notify(0)
    t.truthy(access.status() & VIRTIO_CONFIG_S_NEEDS_RESET)
    t.is((errors[0] as VirtioError).code, 'E_DESCRIPTOR_INDEX')
    const before = memory.snapshot()
    access.notify(0)
    access.notify(0)
    t.is(errors.length, 1)
    t.deepEqual(memory.snapshot(), before)
    if (name !== 'by PCI with MSI-X') t.is(interrupts(), 1)
    driver.start()
    t.is(access.status() & VIRTIO_CONFIG_S_NEEDS_RESET, 0)
    driver.queue(0).submit([{ gpa: 0x8000, length: 1, writable: true }])
    driver.kick(0)
    t.is(driver.queue(0).takeUsed().length, 1)
  })

  test(`reset in mid-request, reached ${name}, is over when the request is`, async (t) => {
    const memory = new FakeMemory()
    const backend = new RamDisk(1 << 20)
    backend.hold = true
    const device = createBlk({ memory, backend })
    const { access, interrupts } = reach(device)
    const driver = new FakeDriver(memory, access)
    driver.start()
    blkRequest(driver, { type: 0, sector: 0, length: 512 })
    await turns()
    t.is(backend.held, 1)
    const before = interrupts()
    access.setStatus(0)
    t.not(access.status(), 0, 'the driver waits for the end of the reset')
    access.setStatus(1)
    t.throws(() => driver.start(), { message: /still resetting/ })
    const memoryBefore = memory.read(0x1000, 0x4000)
    backend.release()
    await device.quiesce()
    await turns()
    t.is(access.status(), 0)
    t.deepEqual(memory.read(0x1000, 0x4000), memoryBefore, 'rings are left alone')
    t.is(interrupts(), before)
    backend.hold = false
    driver.start()
    t.is(await blkRequest(driver, { type: 0, sector: 0, length: 512 }), 0)
  })
}

test('features: VERSION_1 is needed, what is not offered is refused, acceptance is final', (t) => {
  const memory = new FakeMemory()
  const device = createRng({ memory, entropy, withoutFeatures: [VIRTIO_F_EVENT_IDX] })
  const driver = FakeDriver.direct(memory, device)
  t.throws(() => driver.start({ features: 0n }), { message: /refuses/ })
  const version = 1n << BigInt(VIRTIO_F_VERSION_1)
  t.throws(() => driver.start({ features: version | (1n << 29n) }), { message: /refuses/ })
  t.throws(() => driver.start({ features: version | (1n << 60n) }), { message: /refuses/ })
  driver.start({ features: version })
  device.setDriverWord(0, 0xffff_ffff)
  t.is(device.driverFeatures, version)
})

test('no queue works before DRIVER_OK, nor without FEATURES_OK', (t) => {
  const memory = new FakeMemory()
  const device = createRng({ memory, entropy })
  device.writeStatus(1 | 2 | 4)
  t.false(device.running)
  t.is(device.status & VIRTIO_CONFIG_S_FEATURES_OK, 0)
  device.notify(0)
  device.notify(99)
  device.notify(-1)
  device.notify(0.5)
  t.pass()
})

test('a failure before DRIVER_OK is told once the driver listens', (t) => {
  const memory = new FakeMemory()
  const device = createRng({ memory, entropy })
  const counter = new InterruptCounter()
  device.connect(counter)
  device.writeStatus(3)
  device.setDriverWord(1, 1)
  device.writeStatus(0xb)
  device.queues[0]!.size = 3
  device.enableQueue(0)
  t.truthy(device.status & VIRTIO_CONFIG_S_NEEDS_RESET)
  t.is(counter.configs, 0)
  device.writeStatus(0xf)
  t.is(counter.configs, 1)
  t.false(device.running)
})

test('one queue is reset alone (RING_RESET)', async (t) => {
  const memory = new FakeMemory()
  const backend = new RamDisk(1 << 20)
  const device = createBlk({ memory, backend, queues: 2 })
  const msix = { enabled: false, vectors: 0, trigger: () => {} }
  const bar = new VirtioPciTransport(device, { msix, intx: { set: () => {} } })
  const driver = new FakeDriver(memory, pciAccess(bar))
  driver.start()
  backend.hold = true
  blkRequest(driver, { type: 0, sector: 0, length: 512 })
  await turns()
  bar.write(0x16, 2, 0)
  bar.write(0x3a, 2, 1)
  t.is(bar.read(0x1c, 2), 0)
  t.is(bar.read(0x3a, 2), 1, 'the request is still there')
  backend.hold = false
  backend.release()
  await turns()
  t.is(bar.read(0x3a, 2), 0)
  t.is(await blkRequest(driver, { type: 0, sector: 0, length: 512, queue: 1 }), 0)
})

test('a busy driver does not keep the device for ever', (t) => {
  const memory = new FakeMemory()
  const later: (() => void)[] = []
  let refill = (): void => {}
  let calls = 0
  const refilling = {
    fill(target: Uint8Array): void {
      calls++
      target.fill(1)
      refill()
    },
  }
  const device = createRng({ memory, entropy: refilling, later: (work) => void later.push(work) })
  const driver = FakeDriver.direct(memory, device)
  driver.start({ features: 1n << 32n })
  const queue = driver.queue(0)
  // Another CPU that does not wait for a buffer to be used before it offers it again.
  const head = queue.submit([{ gpa: 0x8000, length: 1, writable: true }])
  refill = () => queue.offer(head)
  device.notify(0)
  t.is(calls, 8)
  t.is(later.length, 1)
  refill = () => {}
  for (const work of later.splice(0)) work()
  t.true(calls > 8, 'it goes on afterwards')
})

test('a saved device goes on in another one, requests in flight included', async (t) => {
  const memory = new FakeMemory()
  const backend = new RamDisk(1 << 20)
  backend.data.fill(7)
  backend.hold = true
  const links = { msix: { enabled: false, vectors: 4, trigger() {} }, intx: { set() {} } }
  const first = new VirtioPciTransport(createBlk({ memory, backend }), links)
  const driver = new FakeDriver(memory, pciAccess(first))
  driver.start()
  const status = blkRequest(driver, { type: 0, sector: 3, length: 1024 })
  await turns()
  const state = structuredClone(first.save())
  // The first machine is gone; nothing of it ends any more.
  const again = new RamDisk(1 << 20)
  again.data.fill(9)
  const levels: boolean[] = []
  const second = new VirtioPciTransport(createBlk({ memory, backend: again }), {
    ...links,
    intx: { set: (level) => void levels.push(level) },
  })
  second.load(state)
  t.deepEqual(second.save(), state)
  t.deepEqual(again.calls, [])
  second.device.resume()
  t.is(await status, 0)
  t.deepEqual(memory.read(0x2_0000, 1024), new Uint8Array(1024).fill(9))
  t.deepEqual(levels, [false, true])
})

test('states that were not saved by this device are refused', (t) => {
  const memory = new FakeMemory()
  const device = createRng({ memory, entropy })
  const good = device.save()
  const bad: object[] = [
    { ...good, status: 256 },
    { ...good, queues: [] },
    { ...good, queues: [{}] },
    { ...good, driverFeatures: -1n },
    { ...good, status: 0xf, driverFeatures: 1n << 60n },
    { ...good, queues: [{ ...good.queues[0], address: [1] }] },
    { ...good, queues: [{ ...good.queues[0], ready: true, size: 3 }] },
  ]
  for (const state of bad) t.throws(() => device.load(state as never), { instanceOf: VirtioError })
  device.load(good)
  t.deepEqual(device.save(), good)
})
