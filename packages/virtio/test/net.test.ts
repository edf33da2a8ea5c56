import test from 'ava'
import {
  type NetFeatures,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  VIRTIO_F_EVENT_IDX,
  type VirtioError,
} from 'virtio'
import { FakeDriver, batchOf } from 'virtio/testing'
import {
  MAC,
  bit,
  VERSION_1,
  ALL,
  TX_GPA,
  RX_GPA,
  create,
  start,
  frame,
  submit,
  give,
  CSUM,
  TSO4,
  MRG,
} from './net-cards.ts'

test('frames of one kick go in one batch, with one interrupt', (t) => {
  const fixture = start()
  const { driver, end, interrupts } = fixture
  for (let i = 0; i < 10; i++) submit(fixture, frame(60 + i, i), { at: i })
  driver.kick(1)
  t.deepEqual(end.offered, [10])
  t.deepEqual(
    end.got.map((item) => item.frame),
    Array.from({ length: 10 }, (_, i) => frame(60 + i, i)),
  )
  t.deepEqual(interrupts.queues, [1])
  t.is(driver.queue(1).takeUsed().length, 10)
})

test('what the other end does not take waits, and comes once', (t) => {
  const fixture = start()
  const { driver, end, link, later } = fixture
  end.room = 2
  for (let i = 0; i < 4; i++) submit(fixture, frame(60, i), { at: i })
  driver.kick(1)
  submit(fixture, frame(60, 4), { at: 4 })
  fixture.device.notify(1)
  t.is(end.got.length, 2)
  end.room = Infinity
  link.a.ready()
  for (const work of later.splice(0)) work()
  t.deepEqual(
    end.got.map((item) => item.frame[20]),
    [0, 1, 2, 3, 4],
  )
})

test('frames of one batch come with one interrupt', (t) => {
  const fixture = start()
  const { link, driver, memory, interrupts } = fixture
  give(fixture, [1600, 1600, 1600])
  const batch = batchOf(frame(60, 1), frame(1514, 2))
  t.is(link.a.send(batch), batch.used)
  t.deepEqual(interrupts.queues, [0])
  const used = driver.queue(0).takeUsed()
  t.deepEqual(
    used.map(({ written }) => written),
    [72, 1526],
  )
  t.deepEqual(memory.read(RX_GPA + 12, 60), frame(60, 1))
  t.deepEqual(memory.read(RX_GPA + 1612, 1514), frame(1514, 2))
  t.is(memory.view(RX_GPA + 10, 2).getUint16(0, true), 1)
  t.is(batch.view.getUint16(14, true), 0)
})

test('a frame is spread over mergeable buffers', (t) => {
  const fixture = start()
  const { link, driver, memory } = fixture
  give(fixture, [100, 100, 100, 100])
  const data = Uint8Array.from({ length: 250 }, (_, i) => i)
  data.set(MAC)
  link.a.send(batchOf(data))
  t.deepEqual(
    driver
      .queue(0)
      .takeUsed()
      .map(({ written }) => written),
    [100, 100, 62],
  )
  t.is(memory.view(RX_GPA + 10, 2).getUint16(0, true), 3)
  t.deepEqual(memory.read(RX_GPA + 12, 250), data)
})

test('without buffers frames wait for the driver, in order', (t) => {
  const fixture = start()
  const { link, end, driver } = fixture
  give(fixture, [100])
  const batch = batchOf(frame(60, 1), frame(200, 2), frame(60, 3))
  const rest = link.a.send(batch)
  t.is(rest, 76)
  give(fixture, [100])
  t.deepEqual(end.told, ['resume'])
  t.is(link.a.send(batch, rest), rest)
  give(fixture, [200, 200])
  t.is(link.a.send(batch, rest), batch.used)
  t.deepEqual(end.told, ['resume', 'resume'])
  t.is(driver.queue(0).takeUsed().length, 4)
})

test('a frame that never fits is dropped', (t) => {
  const plain = start({ features: VERSION_1 })
  give(plain, [100, 2000])
  const batch = batchOf(frame(500, 1))
  t.is(plain.link.a.send(batch), batch.used)
  t.is(plain.device.model.rxDropped, 1)
  t.is(plain.driver.queue(0).takeUsed().length, 0)
  plain.link.a.send(batchOf(frame(60, 2)))
  t.is(plain.driver.queue(0).takeUsed()[0]?.written, 72)
})

test('the header of a driver of before VirtIO 1.0 has ten bytes', (t) => {
  const { memory, device, end, link } = create()
  const driver = FakeDriver.direct(memory, device)
  device.writeLegacyStatus(1)
  device.writeLegacyStatus(3)
  device.acceptLegacy(0)
  // The rings are made as by another transport.
  driver.start({ features: VERSION_1 })
  t.is(device.driverFeatures, VERSION_1)
  device.reset()
  device.writeLegacyStatus(3)
  for (const [index, queue] of driver.queues) {
    driver.memory.write(queue.layout.descGpa, new Uint8Array(queue.endGpa - queue.layout.descGpa))
    const target = device.queues[index]!
    target.size = queue.layout.size
    const { descGpa, availGpa, usedGpa } = queue.layout
    for (const [i, gpa] of [descGpa, availGpa, usedGpa].entries()) target.setAddressWord(2 * i, gpa)
    device.enableQueue(index)
  }
  device.writeLegacyStatus(7)
  t.true(device.running)
  memory.write(TX_GPA + 10, frame(60, 7))
  driver.queue(1).submit([{ gpa: TX_GPA, length: 70 }])
  device.notify(1)
  t.deepEqual(end.got[0]?.frame, frame(60, 7))
  driver.queue(0).submit([{ gpa: RX_GPA, length: 1524, writable: true }])
  link.a.send(batchOf(frame(60, 8)))
  t.is(driver.queue(0).takeUsed()[0]?.written, 70)
  t.deepEqual(memory.read(RX_GPA + 10, 60), frame(60, 8))
  // And the address is in registers that it may write.
  device.configWrite(0, 1, 0xaa)
  t.is(device.configRead(0, 1), 0xaa)
})

test('offloads are what the other end accepts', (t) => {
  const offered = (accepts: number, enable: NetFeatures = {}): number =>
    Number(create({ accepts, enable }).device.offeredFeatures & 0x7fffn)
  t.is(offered(0), 0x20)
  t.is(offered(0x01), 0x7a7)
  t.is(offered(0x03) & 0x7800, 0x800)
  t.is(offered(ALL), 0x7fe7)
  t.is(offered(ALL, { csum: false }) & 0x7841, 0)
  t.is(offered(ALL, { guestCsum: false }) & 0x0786, 0)
  t.is(offered(ALL, { hostEcn: false }) & 0x2040, 0)
})

test('the header of a frame is passed on as far as it was negotiated', (t) => {
  const partial = Uint8Array.of(1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 9, 9)
  const segments = Uint8Array.of(1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0)
  const fixture = start({ features: VERSION_1 | CSUM | TSO4 })
  submit(fixture, frame(60, 1), { header: partial })
  submit(fixture, frame(3000, 2), { header: segments, at: 1 })
  fixture.driver.kick(1)
  t.deepEqual([...fixture.end.got[0]!.header], [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0])
  t.deepEqual(fixture.end.got[1]!.header, segments)
})

test('frames that make no sense are dropped', (t) => {
  const header = (...bytes: number[]): Uint8Array =>
    Uint8Array.from([...bytes, ...Array(12 - bytes.length).fill(0)])
  const bad: [string, Uint8Array, number, bigint][] = [
    ['too short', header(), 13, CSUM],
    ['a checksum beyond the frame', header(1, 0, 0, 0, 0, 0, 60), 60, CSUM],
    ['not negotiated', header(1), 60, 0n],
    ['segments not negotiated', header(1, 1, 0, 0, 100), 60, CSUM],
    ['segments of nothing', header(1, 1), 60, CSUM | TSO4],
    ['segments without checksum', header(0, 1, 0, 0, 100), 60, CSUM | TSO4],
    ['an unknown kind', header(1, 2, 0, 0, 100), 60, CSUM | TSO4],
  ]
  for (const [name, head, length, features] of bad) {
    const fixture = start({ features: VERSION_1 | features })
    submit(fixture, frame(length, 1), { header: head })
    fixture.driver.kick(1)
    t.deepEqual([fixture.end.got.length, fixture.device.model.txErrors], [0, 1], name)
    t.is(fixture.driver.queue(1).takeUsed().length, 1, name)
  }
})

test('a frame without a header, or buffers without room, stop the device', (t) => {
  const sender = start()
  sender.driver.queue(1).submit([{ gpa: TX_GPA, length: 11 }])
  sender.driver.kick(1)
  const receiver = start()
  receiver.driver.queue(0).submit([{ gpa: RX_GPA, length: 100 }])
  receiver.driver.kick(0)
  const batch = batchOf(frame(60, 1), frame(60, 2))
  t.is(receiver.link.a.send(batch), batch.used)
  for (const { device, errors } of [sender, receiver]) {
    t.truthy(device.status & VIRTIO_CONFIG_S_NEEDS_RESET)
    t.is((errors[0] as VirtioError).code, 'E_REQUEST')
  }
})

test('with EVENT_IDX the device asks for a kick only when it wants buffers', (t) => {
  const fixture = start({ features: VERSION_1 | bit(VIRTIO_F_EVENT_IDX) | MRG })
  const { driver, link, end } = fixture
  give(fixture, [100, 100])
  link.a.send(batchOf(frame(60, 1)))
  give(fixture, [100], { kick: false })
  t.false(driver.queue(0).needsKick())
  const batch = batchOf(frame(60, 2), frame(60, 3), frame(60, 4))
  t.true(link.a.send(batch) < batch.used)
  give(fixture, [100], { kick: false })
  t.true(driver.queue(0).needsKick())
  fixture.device.notify(0)
  t.deepEqual(end.told, ['resume'])
})

test('a paused card neither sends nor takes', (t) => {
  const fixture = start()
  give(fixture, [2000])
  fixture.device.model.pause(true)
  submit(fixture, frame(60, 1))
  fixture.driver.kick(1)
  const batch = batchOf(frame(60, 2))
  t.is(fixture.link.a.send(batch), 0)
  t.is(fixture.end.got.length, 0)
  fixture.device.model.pause(false)
  fixture.device.resume()
  t.is(fixture.end.got.length, 1)
  t.deepEqual(fixture.end.told, ['resume'])
  t.is(fixture.link.a.send(batch), batch.used)
})

test('a driver whose ring was full is asked for kicks', (t) => {
  for (const eventIdx of [true, false]) {
    const fixture = start({ features: VERSION_1 | (eventIdx ? bit(VIRTIO_F_EVENT_IDX) : 0n) })
    const { device, driver, end } = fixture
    const queue = driver.queue(1)
    const { size } = queue.layout
    for (let i = 0; i < size; i++) {
      fixture.memory.write(TX_GPA, new Uint8Array(72))
      queue.submit([{ gpa: TX_GPA, length: 72 }])
    }
    t.is(queue.freeDescriptors, 0)
    queue.needsKick()
    device.notify(1)
    t.is(end.got.length, size)
    queue.takeUsed()
    queue.submit([{ gpa: TX_GPA, length: 72 }])
    t.true(queue.needsKick())
  }
})
