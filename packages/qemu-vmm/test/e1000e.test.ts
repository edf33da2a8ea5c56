// The e1000e through its registers and rings: what it has beyond the e1000.
import test from 'ava'
import { batchOf } from 'virtio/testing'
import {
  CONTEXT,
  CUT,
  DATA,
  END,
  REPORT,
  RX_BUFFERS,
  RX_RING,
  TX_DATA,
  frameOf,
  sumOf,
} from './support/e1000-driver.ts'
import { E1000eDriver, EXTENDED, RX_RING_1, tcpFrame } from './support/e1000e-driver.ts'

const [RXQ0, RXQ1, TXQ0, OTHER, LSC] = [0x10_0000, 0x20_0000, 0x40_0000, 0x100_0000, 4]
const [DD, EOP, UDPCS, TCPCS, IPCS, IPIDV, ACK] = [1, 2, 0x10, 0x20, 0x40, 0x200, 0x8000]
const [TCPE, IPE] = [0x2000_0000, 0x4000_0000]
const [MSIX_CONTROL, MSI_CONTROL] = [0xa2, 0xd2]

const word = ({ ram }: E1000eDriver, at: number): number =>
  new DataView(ram.bytes.buffer).getUint32(at, true)

test('interrupts by pin and by MSI: one message for each new cause', (t) => {
  const driver = new E1000eDriver()
  driver.set(0xd0, LSC | 0x80)
  driver.set(0xc8, LSC)
  t.true(driver.interrupt)
  t.is(driver.get(0xc0), 0x8000_0004)
  t.false(driver.interrupt, 'reading the causes clears them')
  driver.card.fn.configWrite(0xd4, 4, 0xfee0_0000)
  driver.card.fn.configWrite(0xdc, 2, 0x41)
  driver.card.fn.configWrite(MSI_CONTROL, 2, 1)
  driver.set(0xc8, LSC)
  driver.set(0xc8, LSC)
  t.deepEqual(driver.messages, [0x41], 'of what is known nobody is told again')
  driver.set(0xc8, 0x80)
  driver.get(0xc0)
  driver.set(0xc8, LSC)
  t.deepEqual(driver.messages, [0x41, 0x41, 0x41])
  t.false(driver.interrupt)
})

test('MSI-X: each queue has its vector, and masks and clears itself', (t) => {
  const driver = new E1000eDriver()
  driver.start(0x0400_8002, EXTENDED)
  driver.useVectors()
  driver.set(0xdc, RXQ0 | TXQ0)
  driver.set(0xd0, RXQ0 | RXQ1 | TXQ0 | OTHER | LSC)
  driver.link.a.send(batchOf(frameOf(100)))
  t.deepEqual(driver.messages, [0])
  t.is(driver.get(0xc8) & RXQ0, 0, 'the cause is gone')
  t.is(driver.get(0xd0) & RXQ0, 0, 'and not let through')
  driver.link.a.send(batchOf(frameOf(100)))
  t.deepEqual(driver.messages, [0])
  driver.set(0xd0, RXQ0)
  t.deepEqual(driver.messages, [0, 0], 'it comes when it may')
  driver.ram.bytes.set(frameOf(64), TX_DATA)
  driver.send([TX_DATA, 0, END | REPORT | 64, 0])
  t.deepEqual(driver.messages, [0, 0, 2])
  driver.link.setUp(false)
  t.deepEqual(driver.messages, [0, 0, 2, 4])
  t.is(driver.get(0xc0) & (OTHER | LSC), OTHER | LSC)
  driver.link.setUp(true)
  driver.clock.advance(6e8)
  t.deepEqual(driver.messages, [0, 0, 2, 4, 4])
  // Vectors that there are not, and fields that are not valid, send nothing.
  driver.set(0xe4, 0x0000_000f)
  driver.set(0xc8, RXQ0 | TXQ0)
  t.is(driver.messages.length, 5)
})

test('a message that the machine holds back leaves when it goes on', (t) => {
  const driver = new E1000eDriver()
  driver.start(0x0400_8002, EXTENDED)
  driver.useVectors()
  driver.set(0xd0, RXQ0)
  driver.isOpen = false
  driver.link.a.send(batchOf(frameOf(100)))
  t.deepEqual(driver.messages, [])
  driver.isOpen = true
  driver.card.pause(false)
  t.deepEqual(driver.messages, [0])
  driver.card.fn.configWrite(MSIX_CONTROL, 2, 0)
})

test('extended descriptors say what is right and wrong with a frame', (t) => {
  const driver = new E1000eDriver()
  driver.start(0x0400_8002, EXTENDED)
  const udp = tcpFrame(90)
  udp[23] = 17
  const view = new DataView(udp.buffer)
  view.setUint16(24, 0)
  view.setUint16(24, ~sumOf(udp.subarray(14, 34)))
  view.setUint16(38, 56)
  view.setUint16(40, 0)
  const right = tcpFrame(100)
  const broken = tcpFrame(100, true)
  const brokenHeader = tcpFrame(100)
  brokenHeader[24]! ^= 1
  const frames = [right, broken, brokenHeader, udp, frameOf(60, undefined, 0x88b5)]
  for (const frame of frames) driver.link.a.send(batchOf(frame))
  const transport = 2 << 16
  const done = DD | EOP
  const tcp = done | IPIDV | IPCS | TCPCS | ACK | transport
  t.deepEqual(
    frames.map((_, i) => word(driver, RX_RING + 16 * i + 8)),
    [tcp, tcp | TCPE, tcp | IPE, done | IPIDV | IPCS | transport, done],
  )
  t.is(word(driver, RX_RING + 4), 0x1234, 'the identification of IPv4')
  t.is(word(driver, RX_RING + 12), 100)
  // A sum that is there is looked at.
  view.setUint16(40, ~sumOf(udp.subarray(34), sumOf(udp.subarray(26, 34)) + 17 + 56))
  driver.link.a.send(batchOf(udp))
  const last = word(driver, RX_RING + 16 * frames.length + 8)
  t.is(last & (TCPCS | UDPCS | TCPE), TCPCS | UDPCS)
})

test('a frame that is shorter than on a cable is filled up, and no fault', (t) => {
  const driver = new E1000eDriver()
  driver.start(0x0400_8002, EXTENDED)
  driver.link.a.send(batchOf(frameOf(42)))
  t.is(word(driver, RX_RING + 12), 60)
  // What Linux adds up to errors: undersized, oversized, and those of check sequences.
  for (const counter of [0x40a4, 0x40ac, 0x4000]) t.is(driver.get(counter), 0)
})

test('the check sequence is four bytes of nothing, and goes over into the next buffer', (t) => {
  const driver = new E1000eDriver()
  driver.ram.bytes.fill(0xee, RX_BUFFERS, RX_BUFFERS + 0x1000)
  // Buffers of 256 bytes.
  driver.start(0x0003_8002, EXTENDED)
  driver.link.a.send(batchOf(frameOf(254)))
  t.is(word(driver, RX_RING + 8) & EOP, 0)
  t.is(word(driver, RX_RING + 12) & 0xffff, 256)
  t.is(word(driver, RX_RING + 16 + 8) & EOP, EOP)
  t.is(word(driver, RX_RING + 16 + 12) & 0xffff, 2)
  t.is(word(driver, RX_BUFFERS + 252), new DataView(frameOf(254).buffer).getUint16(252, true))
})

test('flows are hashed by the key that Microsoft gives, and go to the queue of the table', (t) => {
  const driver = new E1000eDriver()
  driver.start(0x0400_8002, EXTENDED)
  const key = '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa'
  for (const [i, value] of new Uint32Array(
    Uint8Array.from(Buffer.from(key, 'hex')).buffer,
  ).entries()) {
    driver.set(0x5c80 + 4 * i, value)
  }
  driver.set(0x5000, 0x2300)
  driver.set(0x5818, 0x0003_0001)
  for (const [registers, value] of [
    [0x2900, RX_RING_1],
    [0x2908, 512],
    [0x2918, 31],
  ] as const) {
    driver.set(registers, value)
  }
  for (let i = 0; i < 32; i++) driver.giveBuffer(i, RX_RING_1)
  // The first of the examples: 66.9.149.187:2794 to 161.142.100.80:1766.
  const frame = tcpFrame(100, false, [2794, 1766])
  frame.set([66, 9, 149, 187, 161, 142, 100, 80], 26)
  driver.link.a.send(batchOf(frame))
  t.is(word(driver, RX_RING + 4), 0x51cc_c178)
  t.is(word(driver, RX_RING), 1)
  // Entry 0x78 of the table leads to the other queue.
  driver.set(0x5c78, 0x80)
  driver.link.a.send(batchOf(frame))
  t.is(driver.get(0x2910), 1)
  t.is(word(driver, RX_RING_1), 0x101)
  t.is(word(driver, RX_RING_1 + 4), 0x51cc_c178)
})

test('headers are split off, and a queue without a ring loses its frames alone', (t) => {
  const driver = new E1000eDriver()
  driver.start(0x0400_8402, EXTENDED)
  const frame = tcpFrame(1400)
  driver.link.a.send(batchOf(frame))
  t.is(word(driver, RX_RING + 12) & 0xffff, 54)
  t.is(word(driver, RX_RING + 16), (1024 << 16) | 0x8000 | 54)
  t.is(word(driver, RX_RING + 20) & 0xffff, 1400 - 54 - 1024)
  t.deepEqual(driver.ram.bytes.slice(RX_BUFFERS, RX_BUFFERS + 54), frame.slice(0, 54))
  t.deepEqual(
    driver.ram.bytes.slice(RX_BUFFERS + 256, RX_BUFFERS + 256 + 1024),
    frame.slice(54, 1078),
  )
  // Buffers without bytes hold nothing.
  driver.set(0x2170, 0)
  driver.link.a.send(batchOf(frame))
  t.is(driver.get(0x40a0), 1)
})

test('one context serves sums and segments, and each queue has its own', (t) => {
  const driver = new E1000eDriver()
  driver.start()
  const frame = tcpFrame(54 + 300)
  frame.set([0, 0], 24)
  frame.set([0, 0], 50)
  new DataView(frame.buffer).setUint16(50, sumOf(frame.subarray(26, 34)) + 6)
  driver.ram.bytes.set(frame, TX_DATA)
  const context = [14 | (24 << 8) | (33 << 16), 34 | (50 << 8), CONTEXT | CUT | 0x0300_0000 | 300]
  const sums = 0x300
  driver.send(
    [context[0]!, context[1]!, context[2]!, (54 << 8) | (100 << 16)],
    [TX_DATA, 0, DATA | CUT | END | REPORT | 354, sums],
    [TX_DATA, 0, DATA | END | REPORT | 154, sums],
  )
  t.deepEqual(
    driver.sent.map(({ length }) => length),
    [154, 154, 154, 154],
  )
  for (const segment of driver.sent.slice(0, 3)) {
    t.is(sumOf(segment.subarray(14, 34)), 0xffff)
    t.is(sumOf(segment.subarray(34), sumOf(segment.subarray(26, 34)) + 6 + 120), 0xffff)
  }
  // A queue that is not enabled sends nothing.
  driver.set(0x3840, 0)
  driver.send([TX_DATA, 0, END | 100, 0])
  t.is(driver.sent.length, 4)
  driver.set(0x3840, 0x0400)
  t.is(driver.sent.length, 5)
  // A tail outside the ring is none.
  driver.set(0x3818, 0x1000)
  t.is(driver.sent.length, 5)
})

test('descriptors are written back that ask for it, or with a bit of IVAR the last of each packet', (t) => {
  const driver = new E1000eDriver()
  driver.start()
  driver.ram.bytes.set(frameOf(64), TX_DATA)
  const done = (): number[] => [0, 1, 2, 3].map((i) => word(driver, 0x1000 + 16 * i + 12) & DD)
  driver.send([0, 0, CONTEXT | END, 0], [TX_DATA, 0, 32, 0], [TX_DATA, 0, END | 32, 0])
  t.deepEqual(done(), [0, 0, 0, 0])
  driver.send([TX_DATA, 0, END | REPORT | 64, 0])
  t.deepEqual(done(), [0, 0, 0, 1])
  driver.set(0x3810, 0)
  driver.set(0xe4, 0x8000_0000)
  driver.set(0x3818, 3)
  t.deepEqual(done(), [0, 0, 1, 1])
})

test('without the bus, by either bit, nothing moves; loops are heard', (t) => {
  const driver = new E1000eDriver()
  driver.start(0x8002, 0)
  driver.set(0x00, 0x0014_0245)
  t.is(driver.get(0x08) & 0x8_0000, 0, 'the bus is let go of')
  driver.link.a.send(batchOf(frameOf(100)))
  t.is(word(driver, RX_RING + 8), 0)
  driver.set(0x00, 0x0014_0241)
  t.not(driver.get(0x08) & 0x8_0000, 0)
  driver.ram.bytes.set(frameOf(64), TX_DATA)
  driver.set(0x100, 0x8042)
  const head = driver.get(0x2810)
  driver.send([TX_DATA, 0, END | REPORT | 64, 0])
  t.is(driver.sent.length, 0)
  t.is(driver.get(0x2810), head + 1)
})

test('the NVM is written through EEWR, and the reset leaves it and the PHY as they are', (t) => {
  const driver = new E1000eDriver()
  driver.set(0x102c, (0xbeef_0000 | (0x20 << 2) | 1) >>> 0)
  driver.set(0x20, 0x0424_0de0)
  driver.set(0x2808, 0x1000)
  driver.set(0x00, 0x0414_0241)
  t.is(driver.get(0x00), 0x0014_0241)
  t.is(driver.get(0x2808), 0)
  driver.set(0x14, (0x20 << 2) | 1)
  t.is(driver.get(0x14), 0xbeef_0082)
  driver.set(0x20, 0x0824_0000)
  t.is(driver.get(0x20) & 0xffff, 0x0de0)
})
