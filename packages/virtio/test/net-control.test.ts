import test from 'ava'
import { Link, type VirtioError, createNet } from 'virtio'
import { FakeMemory, batchOf } from 'virtio/testing'
import {
  MAC,
  bit,
  VERSION_1,
  ALL,
  create,
  start,
  frame,
  submit,
  give,
  command,
  CSUM,
  GUEST_CSUM,
  CTRL,
  RX,
  VLAN,
  MQ,
} from './net-cards.ts'

test('the filter passes what the driver asked for', (t) => {
  const fixture = start({ features: VERSION_1 | CTRL | RX | VLAN | bit(20) | bit(23) })
  const { link, driver, device } = fixture
  const broadcast = new Uint8Array(6).fill(0xff)
  const group = Uint8Array.of(1, 0, 0x5e, 0, 0, 1)
  const other = Uint8Array.of(2, 0, 0, 0, 0, 9)
  const passes = (to: Uint8Array, vlan?: number): boolean => {
    const data = frame(60, 0, to)
    if (vlan !== undefined) data.set([0x81, 0, vlan >> 8, vlan & 0xff], 12)
    give(fixture, [2000])
    link.a.send(batchOf(data))
    return driver.queue(0).takeUsed().length > 0
  }
  t.true(passes(other))
  t.is(command(fixture, 2, 0, 0, 0), 0)
  t.deepEqual(
    [other, MAC, broadcast, group].map((to) => passes(to)),
    [false, true, true, false],
  )
  t.is(command(fixture, 2, 1, 0, 1, 0, 0, 0, ...other, 1, 0, 0, 0, ...group), 0)
  t.deepEqual([passes(other), passes(group)], [true, true])
  t.false(passes(MAC, 5))
  t.is(command(fixture, 2, 2, 0, 5, 0), 0)
  t.true(passes(MAC, 5))
  t.deepEqual(device.model.rxFilter().vlanTable, [5])
  t.is(command(fixture, 2, 2, 1, 5, 0), 0)
  t.false(passes(MAC, 5))
  t.is(command(fixture, 2, 0, 3, 1), 0)
  t.false(passes(group))
  t.is(command(fixture, 2, 0, 4, 1), 0)
  t.false(passes(MAC))
  t.is(command(fixture, 2, 0, 5, 1), 0)
  t.false(passes(broadcast))
  t.is(command(fixture, 2, 1, 1, ...other), 0)
  t.is(device.model.rxFilter().mainMac, '02:00:00:00:00:09')
  t.is(device.configRead(0, 1), 2)
  // More addresses than there is room for: all pass.
  t.is(command(fixture, 2, 0, 4, 0), 0)
  t.is(command(fixture, 2, 1, 0, 65, 0, 0, 0, ...Array(390).fill(2), 0, 0, 0, 0), 0)
  t.true(passes(MAC))
  t.true(device.model.rxFilter().unicastOverflow)
})

test('commands that make no sense are answered with an error', (t) => {
  const fixture = start()
  const commands = [
    [0, 6, 1],
    [0, 0],
    [0, 0, 1, 1],
    [1, 0],
    [1, 0, 1, 0, 0, 0],
    [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
    [1, 1, 1, 2],
    [1, 2],
    [2, 0, 0, 16],
    [2, 2, 0, 0],
    [3, 1],
    [4, 0, 2, 0],
    [4, 0, 0, 0],
    [5, 0, 0],
    [5, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
    [9, 0],
    [0xff, 0xff],
  ]
  for (const bytes of commands) t.is(command(fixture, 2, ...bytes), 1, bytes.join())
  t.true(fixture.device.running)
})

test('the driver turns offloads off, and the other end is told', (t) => {
  const fixture = start()
  t.is(fixture.link.a.peerAccepts, ALL)
  t.is(command(fixture, 2, 5, 0, 2, 0, 0, 0, 0, 0, 0, 0), 0)
  t.is(fixture.link.a.peerAccepts, 1)
  t.deepEqual(fixture.end.told, ['peer'])
  fixture.device.reset()
  t.is(fixture.link.a.peerAccepts, 0)
})

test('with several pairs a flow comes back where it was sent', (t) => {
  const fixture = start({ pairs: 4 })
  const { link, driver } = fixture
  t.is(fixture.device.configRead(8, 2), 4)
  const flow = (from: number, to: number): Uint8Array => {
    const data = frame(60, 0)
    data.set([8, 0, 0x45], 12)
    data.set([10, 0, 0, from, 10, 0, 0, to], 26)
    data.set([1, from, 1, to], 34)
    return data
  }
  t.is(command(fixture, 8, 4, 0, 4, 0), 0)
  for (const pair of [0, 1, 2, 3]) give(fixture, [2000], { queue: 2 * pair })
  submit(fixture, flow(3, 7), { queue: 5 })
  driver.kick(5)
  link.a.send(batchOf(flow(7, 3)))
  t.is(driver.queue(4).takeUsed().length, 1)
  // Without MQ the control queue is the third.
  const single = start({ pairs: 4, features: VERSION_1 | CTRL | RX })
  t.is(command(single, 2, 0, 0, 1), 0)
  t.is(MQ & single.device.offeredFeatures, MQ)
})

test('the link, an announcement and the MTU are in the registers', (t) => {
  const { device, link, interrupts, driver, ...rest } = start({ hostMtu: 9000 })
  t.is(device.configRead(6, 2), 1)
  t.is(device.configRead(10, 2), 9000)
  link.setUp(false)
  t.is(device.configRead(6, 2), 0)
  t.is(interrupts.configs, 1)
  link.setUp(true)
  device.model.announce()
  t.is(device.configRead(6, 2), 3)
  t.is(interrupts.configs, 3)
  t.is(command({ device, link, interrupts, driver, ...rest }, 2, 3, 0), 0)
  t.is(device.configRead(6, 2), 1)
})

test('a saved card goes on with its filter and the frames that waited', (t) => {
  const fixture = start({ features: VERSION_1 | CTRL | RX | CSUM | GUEST_CSUM })
  command(fixture, 2, 0, 0, 0)
  fixture.end.room = 0
  submit(fixture, frame(60, 1))
  fixture.driver.kick(1)
  const state = structuredClone(fixture.device.save())
  const copy = create()
  copy.device.load(state)
  t.deepEqual(copy.device.save(), state)
  t.is(copy.link.a.peerAccepts, 1)
  copy.link.a.ready()
  t.deepEqual(copy.end.got[0]?.frame, frame(60, 1))
  const bad = {
    ...state,
    model: { ...(state.model as object), pending: Uint8Array.of(1, 2, 3, 4) },
  }
  t.throws(() => create().device.load(bad))
  t.throws(() =>
    create().device.load({ ...state, model: { ...(state.model as object), pairs: 2 } }),
  )
})

test('options that cannot be are refused', (t) => {
  const end = new Link().b
  const memory = new FakeMemory()
  const options = { memory, side: end, mac: MAC }
  for (const bad of [
    { mac: Uint8Array.of(1, 2, 3, 4, 5) },
    { mac: Uint8Array.of(1, 2, 3, 4, 5, 6) },
    { queuePairs: 0 },
    { queuePairs: 2, enable: { ctrlVq: false } },
    { rxQueueSize: 100 },
    { hostMtu: 67 },
  ]) {
    t.is(t.throws<VirtioError>(() => createNet({ ...options, ...bad }))?.code, 'E_CONFIG')
  }
})
