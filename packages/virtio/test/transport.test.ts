import test from 'ava'
import {
  VirtioMmioTransport,
  VirtioPciTransport,
  createBlk,
  createConsole,
  createRng,
} from 'virtio'
import { FakeDriver, FakeMemory, RamDisk, mmioAccess, pciAccess } from 'virtio/testing'

const entropy = { fill: (target: Uint8Array): void => void target.fill(0x5a) }

function createPci(vectors: number = 2): {
  memory: FakeMemory
  pci: VirtioPciTransport
  events: (number | boolean)[]
  msix: { enabled: boolean; vectors: number; trigger: (vector: number) => void }
} {
  const memory = new FakeMemory()
  const events: (number | boolean)[] = []
  const msix = { enabled: true, vectors, trigger: (vector: number) => void events.push(vector) }
  const intx = { set: (level: boolean) => void events.push(level) }
  const pci = new VirtioPciTransport(createRng({ memory, entropy }), { msix, intx })
  return { memory, pci, events, msix }
}

test('PCI identities are those of QEMU', (t) => {
  const memory = new FakeMemory()
  const links = { msix: { enabled: false, vectors: 0, trigger() {} }, intx: { set() {} } }
  const blk = (): ReturnType<typeof createBlk> => createBlk({ memory, backend: new RamDisk(512) })
  const modern = new VirtioPciTransport(blk(), links).identity
  t.is(modern.vendor, 0x1af4)
  t.is(modern.device, 0x1042)
  t.is(modern.revision, 1)
  t.is(modern.subsystem, 0x1100)
  t.is(modern.classCode, 0x01_00_00)
  const old = new VirtioPciTransport(blk(), links, { transitional: true }).identity
  t.is(old.device, 0x1001)
  t.is(old.subsystem, 2)
  t.is(old.revision, 0)
  const serial = createConsole({ memory, ports: [] })
  t.is(new VirtioPciTransport(serial, links).identity.device, 0x1043)
  const rng = createRng({ memory, entropy })
  t.is(new VirtioPciTransport(rng, links, { transitional: true }).identity.device, 0x1005)
})

test('capabilities point at the structures of the BAR', (t) => {
  const { pci } = createPci()
  const found = pci.capabilities.map(({ bytes }) => {
    const view = new DataView(bytes.buffer)
    t.is(bytes[0], 9)
    t.is(bytes[2], bytes.length)
    return [bytes[3], bytes[4], view.getUint32(8, true), view.getUint32(12, true)]
  })
  t.deepEqual(found, [
    [1, 4, 0x0000, 0x1000],
    [3, 4, 0x1000, 0x1000],
    [4, 4, 0x2000, 0x1000],
    [2, 4, 0x3000, 0x1000],
    [5, 0, 0, 0],
  ])
  t.is(new DataView(pci.capabilities[3]!.bytes.buffer).getUint32(16, true), 4)
  t.deepEqual(pci.notifyAddresses, [{ queue: 0, offset: 0x3000 }])
  t.deepEqual(pci.bar, { index: 4, size: 0x4000 })
})

test('the BAR can be reached through the configuration space', (t) => {
  const { pci } = createPci()
  const access = pci.capabilities[4]!.access!
  access.write(4, 1, 4)
  access.write(8, 4, 0x14)
  access.write(12, 4, 1)
  access.write(16, 1, 3)
  t.is(pci.read(0x14, 1), 3)
  t.is(access.read(16, 1), 3)
  t.is(access.read(8, 4), 0x14)
  t.is(access.read(0, 4), 0x05_14_00_09)
  // A window that is not of this width, not in the BAR, or in another BAR.
  t.is(access.read(16, 2), 0)
  access.write(8, 4, 0xffff_ffff)
  t.is(access.read(16, 1), 0)
  access.write(8, 4, 0x14)
  access.write(4, 1, 1)
  access.write(16, 1, 0)
  t.is(pci.read(0x14, 1), 3)
  pci.reset()
  t.is(access.read(8, 4), 0)
})

test('vectors that there are not cannot be had', (t) => {
  const { pci, memory, events } = createPci(2)
  const driver = new FakeDriver(memory, pciAccess(pci))
  driver.start()
  pci.write(0x10, 2, 1)
  t.is(pci.read(0x10, 2), 1)
  pci.write(0x10, 2, 2)
  t.is(pci.read(0x10, 2), 0xffff)
  events.length = 0
  pci.device.configChanged()
  t.deepEqual(events, [])
  pci.write(0x10, 2, 1)
  pci.device.configChanged()
  t.deepEqual(events, [1])
  pci.write(0x16, 2, 7)
  pci.write(0x1a, 2, 0)
  t.is(pci.read(0x1a, 2), 0xffff)
  t.is(pci.read(0x18, 2), 0)
  pci.write(0x14, 1, 0)
  t.is(pci.read(0x10, 2), 0xffff)
})

test('without MSI-X the ISR register tells why, and reading it lets the line go', (t) => {
  const { pci, memory, events, msix } = createPci()
  msix.enabled = false
  const driver = new FakeDriver(memory, pciAccess(pci))
  driver.start()
  events.length = 0
  driver.queue(0).submit([{ gpa: 0x8000, length: 4, writable: true }])
  driver.kick(0)
  pci.device.configChanged()
  t.deepEqual(events, [true, true])
  t.is(pci.read(0x1001, 1), 0)
  t.is(pci.read(0x1000, 1), 3)
  t.is(pci.read(0x1000, 1), 0)
  t.deepEqual(events, [true, true, false])
  pci.device.configChanged()
  msix.enabled = true
  events.length = 0
  pci.updateIntx()
  t.deepEqual(events, [false])
})

test('registers take the widths of their fields', (t) => {
  const { pci } = createPci()
  t.is(pci.read(0x12, 4), 0x0000_0001)
  t.is(pci.read(0x18, 1), 8)
  t.is(pci.read(0x17, 4), 0xff_00_08_00)
  pci.write(0x20, 4, 0x1234_5670)
  t.is(pci.read(0x22, 1), 0x34)
  pci.write(0x22, 2, 0xffff)
  t.is(pci.read(0x20, 4), 0x1234_5670, 'half a field is not written')
  pci.write(0x16, 4, 0x0004_0000)
  t.is(pci.read(0x18, 2), 4, 'two fields in one access are')
  t.is(pci.read(0x3c, 4), 0)
  t.is(pci.read(0xfff, 4), 0)
})

test('MMIO registers', (t) => {
  const memory = new FakeMemory()
  const levels: boolean[] = []
  const device = createBlk({ memory, backend: new RamDisk(4096) })
  const mmio = new VirtioMmioTransport(device, { set: (level) => void levels.push(level) })
  t.is(mmio.read(0, 4), 0x7472_6976)
  t.is(mmio.read(4, 4), 2)
  t.is(mmio.read(8, 4), 2)
  t.is(mmio.read(0, 2), 0, 'only 32 bits wide')
  t.is(mmio.read(0xb0, 4), 0xffff_ffff)
  t.is(mmio.read(0x100, 1), 8)
  const driver = new FakeDriver(memory, mmioAccess(mmio))
  driver.start()
  levels.length = 0
  device.configChanged()
  t.is(mmio.read(0x60, 4), 2)
  mmio.write(0x64, 4, 2)
  t.is(mmio.read(0x60, 4), 0)
  t.deepEqual(levels, [true, false])
  t.is(mmio.read(0xfc, 4), 1)
  mmio.write(0x44, 4, 0)
  t.is(mmio.read(0x44, 4), 0)
  mmio.write(0x38, 4, 0x1_0008)
  mmio.write(0x44, 4, 1)
  t.truthy(mmio.read(0x70, 4) & 0x40, 'a size beyond 16 bits is no size')
  const state = structuredClone(mmio.save())
  const copy = new VirtioMmioTransport(createBlk({ memory, backend: new RamDisk(4096) }), {
    set: () => {},
  })
  copy.load(state)
  t.deepEqual(copy.save(), state)
})
