// What the e1000 does with frames that come: descriptors, filters, tags, and waiting for the guest.
import test from 'ava'
import { batchOf } from 'virtio/testing'
import { E1000Driver, END, MAC, RX_BUFFERS, TX_DATA, frameOf } from './support/e1000-driver.ts'

const BROADCAST = new Uint8Array(6).fill(0xff)

test('frames come into descriptors, with what a driver wants to know', (t) => {
  const driver = new E1000Driver()
  driver.start()
  driver.set(0xd0, 0x80)
  const frame = frameOf(200)
  const short = frameOf(20, BROADCAST)
  driver.link.a.send(batchOf(frame, short))
  t.true(driver.interrupt)
  const first = driver.received(0)
  // The check sequence has four bytes more.
  t.deepEqual([first.status, first.length], [7, 204])
  t.deepEqual(first.bytes.subarray(0, 200), frame)
  const second = driver.received(1)
  t.deepEqual([second.status, second.length], [7, 64])
  t.deepEqual([...second.bytes.subarray(0, 22)], [...short, 0, 0])
  t.is(driver.get(0x2810), 2)
  t.deepEqual([driver.get(0x4074), driver.get(0x4078), driver.get(0x40d0)], [2, 1, 2])
  driver.set(0x100, 0x0400_8002)
  driver.link.a.send(batchOf(frame))
  t.is(driver.received(2).length, 200)
})

test('a frame goes to as many buffers as it needs', (t) => {
  const driver = new E1000Driver()
  // 256 bytes each, long frames too.
  driver.start(0x3_8022)
  const frame = frameOf(3000)
  driver.link.a.send(batchOf(frame))
  const parts = Array.from({ length: 12 }, (_, i) => driver.received(i))
  t.deepEqual(
    parts.map(({ status }) => status),
    [...Array.from({ length: 11 }, () => 1), 7],
  )
  const data = Buffer.concat(parts.map(({ bytes }) => bytes))
  t.is(data.length, 3004)
  t.is(Buffer.compare(data.subarray(0, 3000), frame), 0)
})

test('filters: own address, table, groups, everything, tags', (t) => {
  const other = Uint8Array.of(2, 1, 1, 1, 1, 1)
  const group = Uint8Array.of(1, 0, 0x5e, 0, 0x12, 0x34)
  const taken = (
    rctl: number,
    to: Uint8Array,
    prepare?: (driver: E1000Driver) => void,
  ): boolean => {
    const driver = new E1000Driver()
    driver.start(rctl)
    prepare?.(driver)
    driver.link.a.send(batchOf(frameOf(80, to)))
    return driver.get(0x2810) === 1
  }
  t.true(taken(0x0002, MAC))
  t.false(taken(0x0002, other))
  t.true(taken(0x000a, other))
  t.false(taken(0x0002, group))
  t.true(taken(0x0012, group))
  t.false(taken(0x0002, BROADCAST))
  t.true(taken(0x8002, BROADCAST))
  // Bits 47 to 36 of the address.
  const hash = ((0x34 << 8) | 0x12) >> 4
  const table = (driver: E1000Driver): void =>
    driver.set(0x5200 + 4 * (hash >> 5), 1 << (hash & 31))
  t.true(taken(0x0002, group, table))
  t.false(taken(0x1002, group, table))
  const second = (driver: E1000Driver): void => {
    driver.set(0x5408, 0x0101_0102)
    driver.set(0x540c, 0x8000_0101)
  }
  t.true(taken(0x0002, other, second))
})

test('tags are filtered and stripped', (t) => {
  const driver = new E1000Driver()
  driver.start(0x4_8002)
  const frame = frameOf(100, MAC, 0x8100)
  frame.set([0xe1, 0x23, 8, 0], 14)
  driver.link.a.send(batchOf(frame))
  t.is(driver.get(0x2810), 0)
  driver.set(0x5600 + 4 * (0x123 >> 5), 1 << (0x123 & 31))
  driver.link.a.send(batchOf(frame))
  t.is(driver.received(0).length, 104)
  driver.set(0, 0x4014_0240)
  driver.link.a.send(batchOf(frame))
  const got = driver.received(1)
  t.deepEqual([got.status, got.tag, got.length], [15, 0xe123, 100])
  t.deepEqual([...got.bytes.subarray(0, 96)], [...frame.subarray(0, 12), ...frame.subarray(16)])
})

test('without descriptors frames wait at the other end, and come when there are some', (t) => {
  const driver = new E1000Driver()
  driver.start()
  const batch = batchOf(...Array.from({ length: 20 }, (_, i) => frameOf(60 + i)))
  const taken = driver.link.a.send(batch)
  t.is(driver.get(0x2810), 15)
  t.is(batch.frameBytes(taken), 75)
  const told = driver.end.told.length
  driver.set(0x2818, 4)
  t.deepEqual(driver.end.told.slice(told), ['resume'])
  t.is(driver.link.a.send(batch, taken), batch.used)
  t.is(driver.received(3).length, 83)
  // Off, it takes and loses everything.
  driver.set(0x100, 0)
  t.is(driver.link.a.send(batch), batch.used)
})

test('a frame that no ring can hold is dropped', (t) => {
  const driver = new E1000Driver(8)
  driver.start(0x3_8022)
  const batch = batchOf(frameOf(2040), frameOf(100))
  t.is(driver.link.a.send(batch), batch.used)
  t.is(driver.get(0x2810), 1)
  t.is(driver.get(0xc8) & 0x40, 0x40)
  t.is(driver.get(0x4010), 1)
})

test('a cable that is pulled out is noticed, and carries nothing', (t) => {
  const driver = new E1000Driver()
  driver.start()
  driver.set(0xd0, 4)
  driver.link.setUp(false)
  t.true(driver.interrupt)
  t.is(driver.get(8) & 2, 0)
  t.is(driver.get(0xc0) & 4, 4)
  driver.link.a.send(batchOf(frameOf(100)))
  t.is(driver.get(0x2810), 0)
  driver.link.setUp(true)
  driver.clock.advance(500e6)
  t.is(driver.get(8) & 2, 2)
  driver.link.a.send(batchOf(frameOf(100)))
  t.is(driver.get(0x2810), 1)
})

test('in a loop the card hears itself', (t) => {
  const driver = new E1000Driver()
  driver.start()
  driver.set(0x20, 0x0420_0000 | 0x4140)
  driver.frame(frameOf(100))
  driver.send([TX_DATA, 0, END | 100, 0])
  t.is(driver.sent.length, 0)
  t.deepEqual(driver.received(0).bytes.subarray(0, 100), frameOf(100))
})

test('without the right to use the bus nothing is read or written', (t) => {
  const driver = new E1000Driver()
  driver.start()
  driver.card.fn.configWrite(4, 2, 3)
  driver.frame(frameOf(100))
  driver.send([TX_DATA, 0, END | 100, 0])
  driver.link.a.send(batchOf(frameOf(100)))
  t.is(driver.sent.length, 0)
  t.is(driver.ram.bytes[RX_BUFFERS], 0)
})
