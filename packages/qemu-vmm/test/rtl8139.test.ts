// Realtek's 8139C+ in both its modes, through its registers and memory alone.
import test from 'ava'
import { batchOf } from 'virtio/testing'
import { VmmError } from '../src/errors.ts'
import { MAC, frameOf, sumOf } from './support/e1000-driver.ts'
import { words } from './support/random.ts'
import {
  BASE,
  ENTRIES,
  FIRST,
  LARGE_SEND,
  LAST,
  PORTS,
  RX_BUFFERS,
  RX_RING,
  Rtl8139Driver,
  TX_DATA,
  TX_RING,
} from './support/rtl8139-driver.ts'

const BROADCAST = new Uint8Array(6).fill(0xff)

/** A packet of TCP over IPv4 with so much payload. */
function tcpPacket(payload: number): Uint8Array {
  const frame = frameOf(54 + payload)
  frame.set([0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2], 14)
  new DataView(frame.buffer).setUint16(16, 40 + payload)
  new DataView(frame.buffer).setUint32(38, 1000)
  frame.set([0x50, 0x19, 0x20, 0, 0, 0, 0, 0], 46)
  return frame
}

function isWhole(frame: Uint8Array): boolean {
  const segment = frame.subarray(34)
  const pseudo = sumOf(frame.subarray(26, 34), 6 + segment.length)
  return sumOf(frame.subarray(14, 34)) === 0xffff && sumOf(segment, pseudo) === 0xffff
}

test('what drivers look for: address, version, cable, EEPROM', (t) => {
  const driver = new Rtl8139Driver()
  t.is(driver.card.fn.configRead(0, 4), 0x8139_10ec)
  t.deepEqual([driver.get(0), driver.get(4, 2)], [0x1200_5452, 0x5634])
  t.is(driver.get(0x40), 0x7480_0000)
  t.is(driver.bus.pio.read(PORTS + 0x64, 2), 0x782d)
  t.is(driver.get(0x58, 1), 0xd0)
  driver.card.fn.configWrite(0x0c, 1, 0x10)
  t.is(driver.card.fn.configRead(0x0c, 1), 0x10)
  const pins = (value: number): void => driver.set(0x50, 1, 0x88 | value)
  const word = (address: number): number => {
    driver.set(0x50, 1, 0x80)
    pins(0)
    for (let bit = 8; bit >= 0; bit--) {
      const data = (((6 << 6) | address) >> bit) & 1 ? 2 : 0
      pins(data)
      pins(data | 4)
    }
    pins(0)
    let value = 0
    for (let i = 0; i < 16; i++) {
      pins(4)
      value = (value << 1) | (driver.get(0x50, 1) & 1)
      pins(0)
    }
    return value
  }
  t.deepEqual([0, 7, 8, 9].map(word), [0x8129, 0x5452, 0x1200, 0x5634])
})

test('the configuration is locked', (t) => {
  const driver = new Rtl8139Driver()
  driver.set(0x52, 1, 0xff)
  t.is(driver.get(0x52, 1), 0x0c)
  driver.set(0x50, 1, 0xc0)
  driver.set(0x52, 1, 0xff)
  t.is(driver.get(0x52, 1), 0xff)
})

test('the mode of before: four descriptors in turn', (t) => {
  const driver = new Rtl8139Driver()
  driver.startOld()
  driver.set(0x3c, 2, 4)
  for (let i = 0; i < 6; i++) {
    driver.ram.bytes.set(frameOf(100 + i), TX_DATA)
    driver.set(0x20 + 4 * (i % 4), 4, TX_DATA)
    driver.set(0x10 + 4 * (i % 4), 4, 100 + i)
    t.is(driver.get(0x10 + 4 * (i % 4)) & 0xa000, 0xa000)
  }
  t.deepEqual(
    driver.sent,
    Array.from({ length: 6 }, (_, i) => frameOf(100 + i)),
  )
  t.true(driver.interrupt)
  driver.set(0x3e, 2, 4)
  t.false(driver.interrupt)
  t.is(driver.get(0x60, 2), 0xf00f)
})

test('the mode of before: frames follow one another in the buffer, and wait when it is full', (t) => {
  const driver = new Rtl8139Driver()
  driver.startOld()
  t.is(driver.get(0x37, 1) & 1, 1)
  driver.set(0x3c, 2, 1)
  const frame = frameOf(1001)
  const batch = batchOf(...Array.from({ length: 20 }, () => frame))
  const taken = driver.link.a.send(batch)
  t.is(driver.get(0x37, 1) & 1, 0)
  t.is(driver.word(RX_BUFFERS), (1005 << 16) | 0x4001)
  t.deepEqual(driver.ram.bytes.slice(RX_BUFFERS + 4, RX_BUFFERS + 1005), frame)
  t.is(driver.get(0x3a, 2), 8 * 1012)
  t.true(taken < batch.used)
  t.true(driver.interrupt)
  const told = driver.end.told.length
  driver.set(0x38, 2, 1012 - 16)
  t.deepEqual(driver.end.told.slice(told), ['resume'])
  // The next one goes round the end.
  driver.link.a.send(batch, taken)
  const end = RX_BUFFERS + 8192
  const split = Buffer.concat([
    driver.ram.bytes.slice(RX_BUFFERS + 8 * 1012 + 4, end),
    driver.ram.bytes.slice(RX_BUFFERS, RX_BUFFERS + 1001 - (8192 - 8 * 1012 - 4)),
  ])
  t.is(Buffer.compare(split, frame), 0)
})

test('C+ mode: frames of several descriptors, with tags and sums', (t) => {
  const driver = new Rtl8139Driver()
  driver.startRings()
  driver.set(0x3c, 2, 4)
  driver.ram.bytes.set(frameOf(100), TX_DATA)
  driver.send([FIRST | 60, 0, TX_DATA], [LAST | 40, 0, TX_DATA + 60])
  t.deepEqual(driver.sent, [frameOf(100)])
  t.is(driver.word(TX_RING) >>> 31, 0)
  t.true(driver.interrupt)
  driver.send([FIRST | LAST | 100, 0x0002_0000 | 0x2301, TX_DATA])
  t.deepEqual([...driver.sent[1]!.subarray(12, 18)], [0x81, 0, 1, 0x23, 8, 0])
  driver.ram.bytes.set(tcpPacket(77), TX_DATA)
  driver.send([FIRST | LAST | 0x0005_0000 | 131, 0, TX_DATA])
  t.true(isWhole(driver.sent[2]!))
})

test('C+ mode: a large packet is cut into segments', (t) => {
  const driver = new Rtl8139Driver()
  driver.startRings()
  const packet = tcpPacket(5000)
  driver.ram.bytes.set(packet, TX_DATA)
  driver.send([FIRST | LAST | LARGE_SEND | (1460 << 16) | packet.length, 0, TX_DATA])
  const { sent } = driver
  t.deepEqual(
    sent.map(({ length }) => length - 54),
    [1460, 1460, 1460, 620],
  )
  for (const [i, frame] of sent.entries()) {
    const view = new DataView(frame.buffer, frame.byteOffset)
    t.true(isWhole(frame), `segment ${i}`)
    t.deepEqual([view.getUint16(18), view.getUint32(38)], [0x1234 + i, 1000 + 1460 * i])
    t.is(frame[47], i === 3 ? 0x19 : 0x10)
  }
  t.is(Buffer.compare(Buffer.concat(sent.map((f) => f.subarray(54))), packet.subarray(54)), 0)
})

test('C+ mode: frames come into descriptors, and wait for them', (t) => {
  const driver = new Rtl8139Driver()
  driver.startRings(0x6b)
  driver.set(0x3c, 2, 0x11)
  const tagged = frameOf(100, MAC, 0x8100)
  tagged.set([0x01, 0x23, 8, 0], 14)
  driver.link.a.send(batchOf(frameOf(200), tagged))
  t.is(driver.word(RX_RING), (0x3200_0000 | 204) >>> 0)
  t.deepEqual(driver.ram.bytes.slice(RX_BUFFERS, RX_BUFFERS + 200), frameOf(200))
  t.is(driver.word(RX_RING + 16 + 4), 0x0001_2301)
  t.is(driver.word(RX_RING + 16) & 0x1fff, 100)
  const batch = batchOf(...Array.from({ length: 20 }, () => frameOf(60)))
  const taken = driver.link.a.send(batch)
  t.is(taken, 14 * 76)
  t.is(driver.get(0x3e, 2), 0x11)
  for (let i = 0; i < ENTRIES; i++) driver.give(i)
  driver.set(0x3e, 2, 0x11)
  t.is(driver.link.a.send(batch, taken), batch.used)
})

test('filters: own address, groups, broadcasts, everything', (t) => {
  const taken = (rcr: number, to: Uint8Array, groups = 0): boolean => {
    const driver = new Rtl8139Driver()
    driver.startOld(rcr)
    driver.set(8, 4, groups)
    driver.link.a.send(batchOf(frameOf(80, to)))
    return driver.get(0x3a, 2) > 0
  }
  const other = Uint8Array.of(2, 1, 1, 1, 1, 1)
  const group = Uint8Array.of(1, 0, 0x5e, 0, 0, 1)
  t.deepEqual(
    [taken(2, MAC), taken(0, MAC), taken(2, other), taken(1, other)],
    [true, false, false, true],
  )
  t.deepEqual([taken(8, BROADCAST), taken(2, BROADCAST)], [true, false])
  const bits = Array.from({ length: 32 }, (_, bit) => taken(4, group, (1 << bit) >>> 0))
  t.deepEqual(
    bits.flatMap((isTaken, bit) => (isTaken ? bit : [])),
    [31],
  )
  t.true(taken(1, group, 0))
})

test('the timer interrupts where it is told to', (t) => {
  const driver = new Rtl8139Driver()
  driver.set(0x3c, 2, 0x4000)
  driver.set(0x48, 4, 0)
  driver.set(0x54, 4, 33_000)
  driver.clock.advance(999_000)
  t.false(driver.interrupt)
  driver.clock.advance(2000)
  t.true(driver.interrupt)
  t.true(driver.get(0x48) >= 33_000)
})

test('counters are written to memory', (t) => {
  const driver = new Rtl8139Driver()
  driver.startRings()
  driver.link.a.send(batchOf(frameOf(100), frameOf(100, BROADCAST)))
  driver.set(0x14, 4, 0)
  driver.set(0x10, 4, 0x4008)
  t.is(driver.get(0x10), 0x4000)
  t.deepEqual([driver.word(0x4008), driver.word(0x4028), driver.word(0x4030)], [2, 1, 1])
})

test('no sequence of accesses makes the card throw, and what is loaded goes on as what was saved', (t) => {
  const steps = process.env['LONG'] === undefined ? 4000 : 400_000
  const often = [0x37, 0x10, 0x20, 0x38, 0x3c, 0x3e, 0x44, 0x50, 0xd9, 0xe0, 0xe4, 0x54, 0x48, 0x40]
  const step = (driver: Rtl8139Driver, random: () => number): number => {
    const register = random() % 3 === 0 ? random() % 256 : often[random() % 14]!
    const size = 1 << (random() % 3)
    switch (random() % 8) {
      case 0:
        return driver.get(Math.min(register, 256 - size), size)
      case 1:
        driver.ram.bytes[0x1000 + (random() % 0x2000)] = random()
        return 0
      case 2:
        driver.link.a.send(batchOf(frameOf(14 + (random() % 3000))))
        return 0
      case 3:
        if (random() % 16 === 0) driver.startRings(random())
        driver.end.room = random() % 8 === 0 ? 0 : Infinity
        driver.link.a.ready()
        driver.clock.advance(random() % 1e8)
        return 0
      default:
        driver.set(
          Math.min(register, 256 - size),
          size,
          random() % 2 ? random() : random() % 0x4000,
        )
        return 0
    }
  }
  for (let seed = 1; seed <= 8; seed++) {
    const first = new Rtl8139Driver()
    const random = words(seed * 8139)
    first.startRings()
    for (let i = 0; i < steps / 8; i++) {
      const value = step(first, random)
      if (!Number.isInteger(value) || value < 0) return t.fail(`step ${i} gave ${value}`)
    }
    const second = new Rtl8139Driver()
    second.ram.bytes.set(first.ram.bytes)
    second.clock.set(first.clock.nowNs())
    second.card.load(structuredClone(first.card.save()))
    t.deepEqual(second.card.save(), first.card.save(), `seed ${seed}`)
    for (const { card } of [first, second]) card.close()
  }
  const driver = new Rtl8139Driver()
  const good = driver.card.save() as unknown as Record<string, unknown>
  for (const key of Object.keys(good)) {
    for (const value of [undefined, -2, 'x', [3], {}, new Uint8Array(70_000)]) {
      try {
        driver.card.load({ ...good, [key]: value })
        t.fail(`taken: ${key}`)
      } catch (error) {
        t.true(error instanceof VmmError, `${key}: ${String(error)}`)
      }
    }
  }
  t.is(driver.bus.mmio.read(BASE, 4), 0x1200_5452)
})
