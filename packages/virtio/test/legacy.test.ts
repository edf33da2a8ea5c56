import test from 'ava'
import { VirtioPciTransport, createBlk, createRng } from 'virtio'
import { DriverQueue, FakeMemory, RamDisk, Random } from 'virtio/testing'

const PAGE = 4096
const QUEUE_SIZE = 8
const entropy = { fill: (target: Uint8Array): void => void target.fill(0x5a) }

interface Fixture {
  memory: FakeMemory
  pci: VirtioPciTransport
  events: (number | boolean)[]
  msix: { enabled: boolean; vectors: number; trigger: (vector: number) => void }
}

function createPci(memory: FakeMemory = new FakeMemory()): Fixture {
  const events: (number | boolean)[] = []
  const msix = { enabled: false, vectors: 2, trigger: (vector: number) => void events.push(vector) }
  const intx = { set: (level: boolean) => void events.push(level) }
  const device = createRng({ memory, entropy })
  const pci = new VirtioPciTransport(device, { msix, intx }, { transitional: true })
  return { memory, pci, events, msix }
}

/** A legacy driver from reset to DRIVER_OK, with the queue at page 2. */
function start({ memory, pci }: Fixture): DriverQueue {
  for (const status of [0, 1, 3]) pci.legacyWrite(0x12, 1, status)
  pci.legacyWrite(0x04, 4, 0)
  pci.legacyWrite(0x0e, 2, 0)
  const queue = new DriverQueue(memory, { gpa: 2 * PAGE, size: QUEUE_SIZE, usedAlignment: PAGE })
  pci.legacyWrite(0x08, 4, 2)
  pci.legacyWrite(0x12, 1, 7)
  return queue
}

test('a driver of before VirtIO 1.0 negotiates, kicks and is interrupted', (t) => {
  const fixture = createPci()
  const { memory, pci, events } = fixture
  t.deepEqual(pci.legacyBar, { index: 0, size: 32 })
  t.is(pci.legacyRead(0x00, 4), Number(pci.device.offeredFeatures & 0xffff_ffffn))
  t.is(pci.legacyRead(0x0c, 2), QUEUE_SIZE)
  const queue = start(fixture)
  t.is(pci.legacyRead(0x12, 1), 7)
  t.is(pci.legacyRead(0x08, 4), 2)
  t.deepEqual(pci.device.queues[0]!.layout, queue.layout)
  events.length = 0
  queue.submit([{ gpa: 0x8000, length: 4, writable: true }])
  pci.legacyWrite(0x10, 2, 0)
  t.is(queue.takeUsed()[0]?.written, 4)
  t.is(memory.view(0x8000, 4).getUint32(0), 0x5a5a_5a5a)
  t.deepEqual(events, [true])
  t.is(pci.legacyRead(0x13, 1), 1)
  t.is(pci.legacyRead(0x13, 1), 0)
  t.deepEqual(events, [true, false])
  pci.legacyWrite(0x08, 4, 0)
  t.false(pci.device.queues[0]!.ready)
  pci.legacyWrite(0x12, 1, 0)
  t.is(pci.legacyRead(0x12, 1), 0)
  t.false(pci.device.running)
})

test('vectors are there while MSI-X is on, and the configuration is behind them', (t) => {
  const memory = new FakeMemory()
  const msix = { enabled: false, vectors: 2, trigger() {} }
  const device = createBlk({ memory, backend: new RamDisk(64 * 512) })
  const pci = new VirtioPciTransport(device, { msix, intx: { set() {} } }, { transitional: true })
  t.is(pci.legacyRead(0x14, 4), 64)
  msix.enabled = true
  t.is(pci.legacyRead(0x18, 4), 64)
  t.is(pci.legacyRead(0x14, 2), 0xffff)
  pci.legacyWrite(0x14, 2, 1)
  pci.legacyWrite(0x16, 2, 2)
  t.is(pci.legacyRead(0x14, 4) % 0x1_0000, 1)
  t.is(pci.legacyRead(0x16, 2), 0xffff, 'there is no third vector')
})

test('a legacy driver accepts what was offered and no more, and keeps it', (t) => {
  const fixture = createPci()
  const { pci } = fixture
  pci.legacyWrite(0x12, 1, 3)
  pci.legacyWrite(0x04, 4, 0xffff_ffff)
  t.is(pci.legacyRead(0x04, 4), pci.legacyRead(0x00, 4))
  t.is(pci.device.driverWord(1), 0)
  pci.legacyWrite(0x12, 1, 7)
  pci.legacyWrite(0x04, 4, 0)
  t.is(pci.legacyRead(0x04, 4), pci.legacyRead(0x00, 4), 'too late')
  pci.legacyWrite(0x12, 1, 8)
  t.is(pci.legacyRead(0x12, 1) & 8, 0, 'there is no FEATURES_OK')
})

test('a modern driver still has to negotiate', (t) => {
  const { pci } = createPci()
  for (const status of [1, 3, 7]) pci.write(0x14, 1, status)
  t.is(pci.read(0x14, 1) & 4, 0)
})

test('a saved legacy driver goes on elsewhere', (t) => {
  const first = createPci()
  const queue = start(first)
  const second = createPci(first.memory)
  second.pci.load(structuredClone(first.pci.save()))
  t.deepEqual(second.pci.save(), first.pci.save())
  queue.submit([{ gpa: 0x8000, length: 4, writable: true }])
  second.pci.legacyWrite(0x10, 2, 0)
  t.is(queue.takeUsed()[0]?.written, 4)
  const bad = { ...first.pci.save() }
  t.throws(() => second.pci.load({ ...bad, device: { ...bad.device, legacy: 1 as never } }), {
    code: 'E_STATE',
  })
})

test('no sequence of accesses makes the registers throw', (t) => {
  const fixture = createPci()
  const { pci, msix } = fixture
  const random = new Random(0x1e9)
  start(fixture)
  for (let i = 0; i < 50_000; i++) {
    const [offset, size] = [random.below(32), 1 << random.below(3)]
    if (random.below(50) === 0) msix.enabled = !msix.enabled
    if (random.below(2) === 0) {
      const value = pci.legacyRead(offset, size)
      if (!(Number.isInteger(value) && value >= 0 && value < 2 ** (8 * size))) {
        t.fail(`${value} at ${offset}, ${size} bytes`)
        return
      }
    } else pci.legacyWrite(offset, size, random.word() >>> (32 - 8 * size))
  }
  pci.legacyWrite(0x12, 1, 0)
  start(fixture)
  t.true(pci.device.running)
})
