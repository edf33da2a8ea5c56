import test from 'ava'

import { BSY, DRQ, ERR, IdeDriver } from './support/ide-driver.ts'

const READY = 0x50
const text = (data: Uint8Array, word: number, length: number): string =>
  Array.from({ length }, (_, i) => String.fromCharCode(data[word * 2 + (i ^ 1)]!)).join('')
const word = (data: Uint8Array, index: number): number =>
  data[index * 2]! | (data[index * 2 + 1]! << 8)

test('identify: QEMU shows in texts and words', async (t) => {
  const driver = new IdeDriver()
  driver.out(6, 0xa0)
  driver.out(7, 0xec)
  const data = await driver.readData(512)
  t.is(text(data, 10, 20), 'QM00001             ')
  t.is(text(data, 23, 8), '2.5+    ')
  t.is(text(data, 27, 40).trimEnd(), 'QEMU HARDDISK')
  t.deepEqual(
    [1, 3, 6, 47, 49, 88].map((i) => word(data, i)),
    [4, 16, 63, 0x8010, 0xb00, 0x203f],
  )
  t.is(word(data, 60), 4096)
  t.is(word(data, 100), 4096)
  t.is(word(data, 106), 0x6003, 'eight logical sectors in a physical one')
  t.is(driver.in(7), READY)
})

test('the guest waits for no write to a register, but for those of data', (t) => {
  const { bus } = new IdeDriver()
  t.deepEqual(
    bus.pio.postedRanges().toSorted((a, b) => a.base - b.base),
    [
      { base: 0x171, len: 7 },
      { base: 0x1f1, len: 7 },
      { base: 0x376, len: 1 },
      { base: 0x3f6, len: 1 },
    ],
  )
})

test('signatures: a disk, a CD drive, and nothing', (t) => {
  const driver = new IdeDriver()
  const signature = (channel: number): number[] => [2, 3, 4, 5].map((r) => driver.in(r, channel))
  t.deepEqual(signature(0), [1, 1, 0, 0])
  t.deepEqual(signature(1), [1, 1, 0x14, 0xeb])
  driver.out(6, 0xb0)
  t.is(driver.in(7), 0)
  driver.out(7, 0xec)
  t.is(driver.in(7), 0)
  driver.out(6, 0xa0)
  driver.out(7, 0xa1)
  t.is(driver.in(7), 0x41, 'a disk is no packet device')
  t.is(driver.in(1), 4)
})

test('PIO: sectors are read one by one, with an interrupt for each', async (t) => {
  const driver = new IdeDriver()
  driver.address28(7, 3)
  driver.out(7, 0x20)
  t.is(driver.alternate() & BSY, BSY)
  t.deepEqual(await driver.readData(3 * 512), driver.disk.bytes.slice(7 * 512, 10 * 512))
  t.is(driver.irqs[0].edges, 3)
  t.is(driver.in(7), READY)
  driver.disk.now = true
  driver.address28(1, 1)
  driver.out(7, 0x20)
  t.is(driver.alternate(), READY | DRQ, 'at once where that is possible')
  t.deepEqual(await driver.readData(512, 0, 4), driver.disk.bytes.slice(512, 1024))
})

test('PIO: multiple mode moves blocks, and the last may be shorter', async (t) => {
  const driver = new IdeDriver()
  driver.out(6, 0xa0)
  driver.out(2, 3)
  driver.out(7, 0xc6)
  t.is(driver.in(7) & ERR, ERR, 'not a power of two')
  driver.out(2, 4)
  driver.out(7, 0xc6)
  const before = driver.irqs[0].edges
  driver.address28(100, 6)
  driver.out(7, 0xc4)
  t.deepEqual(await driver.readData(6 * 512), driver.disk.bytes.slice(100 * 512, 106 * 512))
  t.is(driver.irqs[0].edges - before, 2)
})

test('PIO: writes reach the disk, and are asked for without a first interrupt', async (t) => {
  const driver = new IdeDriver()
  const data = Uint8Array.from({ length: 1024 }, (_, i) => i * 7)
  driver.address48(50, 2)
  driver.out(7, 0x34)
  t.is(driver.irqs[0].edges, 0)
  t.is(driver.alternate(), READY | DRQ)
  await driver.writeData(data)
  t.is(await driver.settle(), READY)
  t.is(driver.irqs[0].edges, 2)
  t.deepEqual(driver.disk.bytes.slice(50 * 512, 52 * 512), data)
})

test('addresses: cylinder, head and sector, 28 and 48 bits, and what there is none of', async (t) => {
  const driver = new IdeDriver()
  driver.out(2, 1)
  driver.out(3, 5)
  driver.out(4, 1)
  driver.out(5, 0)
  driver.out(6, 0xa2)
  driver.out(7, 0x20)
  const lba = (1 * 16 + 2) * 63 + 4
  t.deepEqual(await driver.readData(512), driver.disk.bytes.slice(lba * 512, (lba + 1) * 512))
  driver.out(3, 0)
  driver.out(7, 0x20)
  t.is(driver.in(7) & ERR, ERR, 'there is no sector 0')
  for (const [first, count] of [
    [4096, 1],
    [4095, 2],
    [0, 0x1000_1],
  ] as const) {
    driver.address48(first, count & 0xffff)
    driver.out(7, 0x24)
    if (count > 0xffff) await driver.readData(512)
    else t.deepEqual([driver.in(7) & ERR, driver.in(1)], [ERR, 0x10])
  }
  driver.control(4)
  driver.control(0)
  driver.address48(2 ** 47, 1)
  driver.out(7, 0x25)
  t.is(driver.in(1), 0x10)
  driver.address28(4000, 0)
  driver.out(7, 0xc8)
  t.is(driver.in(1), 0x10, '256 sectors')
})

test('DMA: reads land in scattered pieces, which are marked as written', async (t) => {
  const driver = new IdeDriver()
  driver.address48(20, 4)
  driver.out(7, 0x25)
  t.is(driver.alternate() & DRQ, DRQ)
  driver.startDma([
    [0x3000, 1000],
    [0x7_ff00, 512],
    [0x5000, 536],
  ])
  t.is(await driver.settle(), READY)
  t.is(driver.busMaster() & 7, 4, 'interrupt, not active')
  const bytes = driver.disk.bytes.slice(20 * 512, 24 * 512)
  t.deepEqual(driver.ram.bytes.slice(0x3000, 0x3000 + 1000), bytes.slice(0, 1000))
  t.deepEqual(driver.ram.bytes.slice(0x7_ff00, 0x7_ff00 + 512), bytes.slice(1000, 1512))
  t.deepEqual(driver.ram.bytes.slice(0x5000, 0x5000 + 536), bytes.slice(1512))
  t.deepEqual(
    driver.ram.written.map(({ len }) => len),
    [1000, 256, 256, 536],
  )
})

test('DMA: what the host has at hand is there when the engine starts', (t) => {
  const driver = new IdeDriver()
  driver.disk.now = true
  driver.address48(20, 2)
  driver.out(7, 0x25)
  driver.startDma([
    [0x3000, 600],
    [0x5000, 424],
  ])
  t.is(driver.in(7), READY)
  t.is(driver.busMaster() & 7, 4)
  const bytes = driver.disk.bytes.slice(20 * 512, 22 * 512)
  t.deepEqual(driver.ram.bytes.slice(0x3000, 0x3000 + 600), bytes.slice(0, 600))
  t.deepEqual(driver.ram.bytes.slice(0x5000, 0x5000 + 424), bytes.slice(600))
  t.deepEqual(
    driver.ram.written.map(({ len }) => len),
    [600, 424],
  )
})

test('DMA: writes come from memory, also when the engine starts first', async (t) => {
  const driver = new IdeDriver()
  driver.ram.bytes.fill(0x5a, 0x8000, 0x8200)
  driver.startDma([[0x8000, 512]], 0, false)
  driver.address28(9, 1)
  driver.out(7, 0xca)
  t.is(await driver.settle(), READY)
  t.true(driver.disk.bytes.subarray(9 * 512, 10 * 512).every((byte) => byte === 0x5a))
})

test('DMA: what goes to ROM is lost, and what comes from there is not', async (t) => {
  const driver = new IdeDriver()
  driver.ram.romAt = 0xf_0000
  const rom = driver.ram.bytes.slice(0xf_0000)
  driver.address48(20, 2)
  driver.out(7, 0x25)
  driver.startDma([
    [0xe_fe00, 1000],
    [0x3000, 24],
  ])
  t.is(await driver.settle(), READY)
  t.is(driver.busMaster() & 7, 4)
  const bytes = driver.disk.bytes.slice(20 * 512, 22 * 512)
  t.deepEqual(driver.ram.bytes.slice(0xe_fe00, 0xf_0000), bytes.slice(0, 512))
  t.deepEqual(driver.ram.bytes.slice(0xf_0000), rom)
  t.deepEqual(driver.ram.bytes.slice(0x3000, 0x3018), bytes.slice(1000))
  driver.ram.bytes.fill(0x5a, 0xf_0000)
  driver.address48(30, 1)
  driver.out(7, 0x35)
  driver.startDma([[0xf_1000, 512]], 0, false)
  t.is(await driver.settle(), READY)
  t.true(driver.disk.bytes.slice(30 * 512, 31 * 512).every((byte) => byte === 0x5a))
})

test('DMA: tables that are too long, too short, or lead nowhere', async (t) => {
  const driver = new IdeDriver()
  driver.address28(1, 1)
  driver.out(7, 0xc8)
  driver.startDma([[0x3000, 1024]])
  t.is(await driver.settle(), READY)
  t.is(driver.busMaster() & 7, 5, 'still active: there is room left')
  driver.stopDma()
  driver.address28(1, 2)
  driver.out(7, 0xc8)
  driver.startDma([[0x3000, 512]])
  t.is(driver.busMaster() & 7, 0, 'over without an interrupt')
  t.is(driver.alternate() & DRQ, DRQ, 'the device waits')
  driver.stopDma()
  driver.control(4)
  driver.control(0)
  for (const gpa of [0xffff_0000, 0xf_ff80]) {
    driver.address28(1, 1)
    driver.out(7, 0xc8)
    driver.startDma([[gpa, 512]])
    t.is((await driver.settle()) & ERR, ERR)
    t.is(driver.busMaster() & 7, 6, 'an error, not active')
    driver.stopDma()
  }
  driver.bus.pio.write(0xc004, 4, 0xffff_fff0)
  driver.address28(1, 1)
  driver.out(7, 0xc8)
  driver.bus.pio.write(0xc000, 1, 9)
  t.is(driver.busMaster() & 3, 2, 'the table itself lies in a hole')
  driver.stopDma()
  driver.ide.fn.configWrite(4, 2, 0x01)
  driver.address28(1, 1)
  driver.out(7, 0xc8)
  driver.startDma([[0x3000, 512]])
  t.is(driver.busMaster() & 3, 2, 'a function that is no bus master moves nothing')
})

test('a reset waits for what the host is doing', async (t) => {
  const driver = new IdeDriver()
  let open: () => void = () => {}
  driver.disk.gate = new Promise((resolve) => (open = resolve))
  driver.address28(3, 1)
  driver.out(7, 0x20)
  driver.control(4)
  driver.control(0)
  t.is(driver.alternate() & BSY, BSY)
  open()
  t.is(await driver.settle(), READY)
  t.is(driver.in(2), 1, 'the signature')
  t.is(driver.irqs[0].edges, 0)
})

test('a machine reset leaves nothing of a request behind', async (t) => {
  const driver = new IdeDriver()
  let open: () => void = () => {}
  driver.disk.gate = new Promise((resolve) => (open = resolve))
  driver.address28(3, 1)
  driver.out(7, 0x20)
  driver.ide.reset()
  t.is(driver.in(7), READY)
  open()
  await new Promise((resolve) => setImmediate(resolve))
  t.is(driver.in(7), READY)
  t.is(driver.irqs[0].edges, 0)
})

test('errors of the host: unreadable, and not written', async (t) => {
  const driver = new IdeDriver()
  driver.disk.error = new Error('broken')
  driver.address28(3, 1)
  driver.out(7, 0x20)
  t.is((await driver.settle()) & ERR, ERR)
  t.is(driver.in(1), 0x40)
  driver.address28(3, 1)
  driver.out(7, 0xca)
  driver.startDma([[0x3000, 512]], 0, false)
  t.is((await driver.settle()) & ERR, ERR)
  t.is(driver.in(1), 4)
  t.is(driver.busMaster() & 1, 0)
  driver.out(7, 0xe7)
  t.is((await driver.settle()) & ERR, ERR)
  driver.disk.error = undefined
  driver.out(7, 0xea)
  t.is(await driver.settle(), READY)
  t.is(driver.disk.flushes, 1)
})

test('features: write cache, modes and trim', async (t) => {
  const driver = new IdeDriver()
  const feature = async (code: number, count = 0): Promise<number> => {
    driver.out(1, code)
    driver.out(2, count)
    driver.out(7, 0xef)
    return await driver.settle()
  }
  t.is(await feature(0x82), READY)
  t.is(driver.disk.flushes, 1)
  driver.address28(3, 1)
  driver.out(7, 0x30)
  await driver.writeData(new Uint8Array(512))
  await driver.settle()
  t.is(driver.disk.flushes, 2, 'without a cache every write is stable')
  t.is(await feature(0x03, 0x45), READY)
  t.is((await feature(0x03, 0x46)) & ERR, ERR)
  t.is((await feature(0x77)) & ERR, ERR)
  driver.out(7, 0xec)
  const data = await driver.readData(512)
  t.is(word(data, 88), 0x203f)
  t.is(word(data, 85), 0x4001)
  const entry = driver.ram.view(0x3000, 512)
  entry.setUint32(0, 8, true)
  entry.setUint16(6, 16, true)
  driver.out(1, 1)
  driver.out(2, 1)
  driver.out(7, 0x06)
  driver.startDma([[0x3000, 512]], 0, false)
  t.is(await driver.settle(), READY)
  t.deepEqual(driver.disk.discards, [[4096, 8192]])
  entry.setUint32(0, 4090, true)
  driver.out(7, 0x06)
  driver.startDma([[0x3000, 512]], 0, false)
  t.is((await driver.settle()) & ERR, ERR, 'behind the end')
})

test('interrupts: disabled by nIEN, acknowledged by the status, not by its alternate', (t) => {
  const driver = new IdeDriver()
  driver.out(7, 0xe0)
  t.true(driver.irqs[0].level)
  driver.alternate()
  t.true(driver.irqs[0].level)
  driver.in(7)
  t.false(driver.irqs[0].level)
  driver.control(2)
  driver.out(7, 0xe0)
  t.false(driver.irqs[0].level)
  driver.control(0)
  t.true(driver.irqs[0].level)
})

test('a controller saved in the middle of a transfer goes on in another', async (t) => {
  const driver = new IdeDriver()
  driver.address28(7, 2)
  driver.out(7, 0x20)
  const first = await driver.readData(100)
  await driver.ide.buses[0].quiesce()
  const state = structuredClone(driver.ide.save())
  const disk = structuredClone(driver.ide.unit(0)!.save())
  const other = new IdeDriver()
  other.ide.load(state)
  other.ide.unit(0)!.load(disk)
  t.deepEqual(other.ide.save(), state)
  const rest = await other.readData(924)
  const expected = driver.disk.bytes.slice(7 * 512, 9 * 512)
  t.deepEqual(Uint8Array.from([...first, ...rest]), expected)
})
