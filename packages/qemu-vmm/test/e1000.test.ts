// Intel's 82540EM through its registers and descriptors alone, as its manual has it.
import { setImmediate } from 'node:timers/promises'
import test from 'ava'
import {
  CONTEXT,
  CUT,
  DATA,
  E1000Driver,
  END,
  INSERT,
  MAC,
  PORTS,
  REPORT,
  TAGGED,
  TX_DATA,
  frameOf,
  sumOf,
} from './support/e1000-driver.ts'

/** A packet of TCP over IPv4 with so much payload, and sums as a driver leaves them for the card. */
function tcpPacket(payload: number, version = 4): Uint8Array {
  const ip = version === 4 ? 20 : 40
  const frame = frameOf(14 + ip + 20 + payload, MAC, version === 4 ? 0x0800 : 0x86dd)
  const view = new DataView(frame.buffer)
  frame.fill(0, 14, 14 + ip + 20)
  const addresses = version === 4 ? [26, 34] : [22, 54]
  if (version === 4) {
    frame.set([0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 2, 15, 10, 0, 2, 2], 14)
  } else {
    frame.set([0x60, 0, 0, 0, 0, 0, 6, 64], 14)
    frame.set([0xfe, 0xc0, 1, 2, 3, 4], 22)
    frame.set([0xfe, 0xc0, 9, 9], 38)
  }
  const tcp = 14 + ip
  view.setUint32(tcp + 4, 1000)
  frame.set([0x50, 0x19, 0x20, 0], tcp + 12)
  view.setUint16(tcp + 16, sumOf(frame.subarray(addresses[0]!, addresses[1]!), 6))
  return frame
}

/** The context descriptor for such a packet. */
function tcpContext(
  payload: number,
  segment: number,
  version = 4,
): [number, number, number, number] {
  const ip = version === 4 ? 20 : 40
  const tcp = 14 + ip
  const command = CONTEXT | CUT | 0x0100_0000 | (version === 4 ? 0x0200_0000 : 0) | payload
  const ipEnd = version === 4 ? 33 : 0
  return [
    14 | (24 << 8) | (ipEnd << 16),
    tcp | ((tcp + 16) << 8),
    command >>> 0,
    (((tcp + 20) << 8) | (segment << 16)) >>> 0,
  ]
}

test('the registers after power-on are what drivers look for', (t) => {
  const driver = new E1000Driver()
  t.is(driver.get(0x0008), 0x8008_0783)
  t.is(driver.get(0x5400), 0x1200_5452)
  t.is(driver.get(0x5404), 0x8000_5634)
  t.is(driver.card.fn.configRead(0, 4), 0x100e_8086)
  t.is(driver.card.fn.configRead(8, 4), 0x0200_0003)
  t.is(driver.get(0x4444), 0)
})

test('the EEPROM is read by both ways, and adds up', (t) => {
  const driver = new E1000Driver()
  const word = (address: number): number => {
    driver.set(0x14, 1 | (address << 8))
    const answer = driver.get(0x14)
    t.is(answer & 0x10, 0x10)
    return answer >>> 16
  }
  const words = Array.from({ length: 64 }, (_, i) => word(i))
  t.deepEqual(words.slice(0, 3), [0x5452, 0x1200, 0x5634])
  t.is(words.reduce((sum, value) => sum! + value!, 0)! & 0xffff, 0xbaba)
  const pin = (value: number): void => {
    driver.set(0x10, 0x42 | value)
    driver.set(0x10, 0x43 | value)
    driver.set(0x10, 0x42 | value)
  }
  driver.set(0x10, 0x40)
  driver.set(0x10, 0x42)
  for (const bit of [1, 1, 0, 0, 0, 0, 0, 0, 1]) pin(bit * 4)
  let shifted = 0
  for (let i = 0; i < 16; i++) {
    driver.set(0x10, 0x43)
    shifted = (shifted << 1) | ((driver.get(0x10) >> 3) & 1)
    driver.set(0x10, 0x42)
  }
  t.is(shifted, words[1]!)
})

test('the PHY is behind MDIC, and negotiates the cable', (t) => {
  const driver = new E1000Driver()
  const phy = (register: number): number => {
    driver.set(0x20, 0x0820_0000 | (register << 16))
    return driver.get(0x20)
  }
  t.is(phy(2), 0x1820_0000 | (2 << 16) | 0x0141)
  t.is(phy(7) >>> 30, 1)
  driver.set(0x20, 0x0860_0000)
  t.is(driver.get(0x20) >>> 30, 1)
  driver.start()
  driver.set(0xd0, 4)
  driver.set(0x20, 0x0420_0000 | 0x1340)
  t.is(driver.get(8) & 2, 0)
  t.is(phy(1) & 0x24, 0)
  t.is(driver.end.got.length, 0)
  driver.clock.advance(499e6)
  t.is(driver.get(8) & 2, 0)
  driver.clock.advance(1e6)
  t.is(driver.get(8) & 2, 2)
  t.is(phy(1) & 0x24, 0x24)
  t.true(driver.interrupt)
  t.is(driver.get(0xc0) & 4, 4)
  t.false(driver.interrupt)
})

test('interrupts: causes, mask, set, clear', (t) => {
  const driver = new E1000Driver()
  driver.set(0xc8, 0x11)
  t.false(driver.interrupt)
  driver.set(0xd0, 0x10)
  t.true(driver.interrupt)
  t.is(driver.get(0xc8), 0x11)
  driver.set(0xc0, 0x10)
  t.false(driver.interrupt)
  driver.set(0xc8, 0x10)
  driver.set(0xd8, 0x10)
  t.false(driver.interrupt)
  t.is(driver.get(0xd0), 0)
  t.is(driver.get(0xc0), 0x11)
  t.is(driver.get(0xc0), 0)
})

test('legacy descriptors: a frame of two buffers, a checksum, a tag, a report', (t) => {
  const driver = new E1000Driver()
  driver.start()
  driver.set(0xd0, 1)
  const frame = frameOf(100)
  driver.frame(frame)
  driver.send([TX_DATA, 0, 40, 0], [TX_DATA + 40, 0, END | REPORT | 60, 0])
  t.deepEqual(driver.sent, [frame])
  t.true(driver.interrupt)
  t.is(driver.get(0xc0), 3)
  t.is(driver.ram.bytes[0x1000 + 16 + 12], 1)
  t.is(driver.ram.bytes[0x1000 + 12], 0)
  driver.send([TX_DATA, 0, END | INSERT | (50 << 16) | 100, 20 << 8])
  const summed = driver.sent[1]!
  const zeroed = frame.slice()
  zeroed.fill(0, 50, 52)
  t.is(((summed[50]! << 8) | summed[51]!) ^ 0xffff, sumOf(frame.subarray(20)))
  driver.set(0x0, 0x4014_0240)
  driver.send([TX_DATA, 0, END | TAGGED | 100, 0xabcd_0000])
  const tagged = driver.sent[2]!
  t.deepEqual([...tagged.subarray(12, 18)], [0x81, 0, 0xab, 0xcd, 8, 0])
  t.is(tagged.length, 104)
  t.is(driver.get(0x4080), 3)
  t.is(driver.get(0x4080), 0)
})

test('checksums by a context descriptor', (t) => {
  const driver = new E1000Driver()
  driver.start()
  const packet = tcpPacket(33)
  new DataView(packet.buffer).setUint16(50, sumOf(packet.subarray(26, 34), 6 + 53))
  driver.frame(packet)
  const [first, second, command] = tcpContext(33, 0)
  driver.send(
    [first, second, (command & ~CUT) >>> 0, 0],
    [TX_DATA, 0, (DATA | END | packet.length) >>> 0, 0x0300],
  )
  const frame = driver.sent[0]!
  t.is(sumOf(frame.subarray(14, 34)), 0xffff)
  t.is(sumOf(frame.subarray(34), sumOf(frame.subarray(26, 34), 6 + 53)), 0xffff)
})

for (const version of [4, 6]) {
  test(`a large packet of IPv${version} is cut into segments with headers of their own`, (t) => {
    const driver = new E1000Driver()
    driver.start()
    const ip = version === 4 ? 20 : 40
    const tcp = 14 + ip
    const packet = tcpPacket(5000, version)
    driver.frame(packet)
    // An IP checksum is IPv4's only.
    const options = version === 4 ? 0x0300 : 0x0200
    const half = tcp + 20 + 1234
    const rest = packet.length - half
    driver.send(
      tcpContext(5000, 1460, version),
      [TX_DATA, 0, (DATA | CUT | half) >>> 0, options],
      [TX_DATA + half, 0, (DATA | CUT | END | rest) >>> 0, options],
    )
    const { sent } = driver
    t.deepEqual(
      sent.map(({ length }) => length - tcp - 20),
      [1460, 1460, 1460, 620],
    )
    const data = Buffer.concat(sent.map((frame) => frame.subarray(tcp + 20)))
    t.is(Buffer.compare(data, packet.subarray(tcp + 20)), 0)
    for (const [i, frame] of sent.entries()) {
      const view = new DataView(frame.buffer, frame.byteOffset)
      t.is(view.getUint32(tcp + 4), 1000 + 1460 * i)
      t.is(frame[tcp + 13], i === 3 ? 0x19 : 0x10)
      const length = frame.length - tcp
      const pseudo = version === 4 ? frame.subarray(26, 34) : frame.subarray(22, 54)
      t.is(sumOf(frame.subarray(tcp), sumOf(pseudo, 6 + length)), 0xffff, `segment ${i}`)
      if (version === 6) t.is(view.getUint16(18), length)
      else {
        t.is(view.getUint16(16), frame.length - 14)
        t.is(view.getUint16(18), 0x1234 + i)
        t.is(sumOf(frame.subarray(14, 34)), 0xffff)
      }
    }
  })
}

test('a packet that ends with a segment has no empty one behind it', (t) => {
  const driver = new E1000Driver()
  driver.start()
  const packet = tcpPacket(2000)
  driver.frame(packet)
  driver.send(tcpContext(2000, 1000), [
    TX_DATA,
    0,
    (DATA | CUT | END | packet.length) >>> 0,
    0x0300,
  ])
  t.deepEqual(
    driver.sent.map(({ length }) => length),
    [1054, 1054],
  )
})

test('impossible frames and segments are dropped, and what follows is sent', (t) => {
  const driver = new E1000Driver()
  driver.start()
  const frame = frameOf(80)
  driver.frame(frame)
  const cut = (DATA | CUT | END | 80) >>> 0
  driver.send(
    // No segment has 0 bytes, and memory ends at 1 MiB.
    tcpContext(80, 0),
    [TX_DATA, 0, cut, 0],
    [0x10_0000 - 8, 0, END | 80, 0],
    [0, 0xffff_ffff, END | 80, 0],
    [TX_DATA, 0, END | 4, 0],
    [TX_DATA, 0, (DATA | 0xf_ffff) >>> 0, 0],
    [TX_DATA, 0, (DATA | END | 80) >>> 0, 0],
    [TX_DATA, 0, END | 80, 0],
  )
  t.deepEqual(driver.sent, [frame])
  t.is(driver.get(0x3810), driver.get(0x3818))
})

test('what the other end does not take stays, and is sent later', (t) => {
  const driver = new E1000Driver()
  driver.start()
  driver.frame(frameOf(100))
  driver.end.room = 1
  driver.send([TX_DATA, 0, END | 100, 0], [TX_DATA, 0, END | 90, 0], [TX_DATA, 0, END | 80, 0])
  t.is(driver.sent.length, 1)
  const saved = driver.card.save()
  driver.end.room = Infinity
  driver.link.a.ready()
  t.deepEqual(
    driver.sent.map(({ length }) => length),
    [100, 90, 80],
  )
  const other = new E1000Driver()
  other.start()
  other.card.load(structuredClone(saved))
  other.link.a.ready()
  t.deepEqual(
    other.sent.map(({ length }) => length),
    [90, 80],
  )
})

test('a great many segments do not hold the machine up, and stop with it', async (t) => {
  const driver = new E1000Driver()
  driver.start()
  const payload = 40_000
  driver.frame(tcpPacket(payload))
  driver.send(tcpContext(payload, 10), [
    TX_DATA,
    0,
    (DATA | CUT | END | (payload + 54)) >>> 0,
    0x0300,
  ])
  const first = driver.sent.length
  t.true(first > 100 && first < 1000, String(first))
  driver.card.pause(true)
  await setImmediate()
  t.is(driver.sent.length, first)
  driver.card.pause(false)
  for (let i = 0; driver.sent.length < payload / 10 && i < 100; i++) await setImmediate()
  t.is(driver.sent.length, payload / 10)
})

test('the reset bit, by memory and by ports, leaves the card as it was', (t) => {
  const driver = new E1000Driver()
  driver.start()
  driver.set(0x5400, 7)
  driver.bus.pio.write(PORTS, 4, 0)
  driver.bus.pio.write(PORTS + 4, 4, 0x0414_0240)
  t.deepEqual([driver.get(0x100), driver.get(0x400), driver.get(0x2808)], [0, 0, 0])
  t.is(driver.get(0x5400), 0x1200_5452)
  t.is(driver.get(0), 0x0014_0240)
  t.is(driver.bus.pio.read(PORTS + 4, 4), 0x0014_0240)
})
