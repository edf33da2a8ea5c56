// What holds frames back: filter-buffer, filter-throttle, and their properties while a machine runs.
import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { Link } from 'virtio'
import { NetEnd, batchOf } from 'virtio/testing'
import { openFilter } from '../src/net/filter.ts'
import type { NetworkFilterConfig } from '../src/net/filter.ts'
import { TokenBucket } from '../src/net/token-bucket.ts'
import type { NetworkFilter } from '../src/net/network-filter.ts'
import { commandLine } from './support/command-line.ts'
import { frameOf } from './support/e1000-driver.ts'
import { runOurs } from './support/qmp-machines.ts'

/** A network at side `a` and a card at side `b` of a cable, with a filter. */
function filtered(
  t: ExecutionContext,
  config: NetworkFilterConfig,
): { link: Link; network: NetEnd; card: NetEnd; filter: NetworkFilter } {
  const [network, card] = [new NetEnd(), new NetEnd()]
  const link = Link.connect(network, card)
  const filter = openFilter(config, {
    addGate: (_id, fromCard, gate) => link.addGate(fromCard ? link.b : link.a, gate),
  })
  t.teardown(() => filter.close())
  return { link, network, card, filter }
}

const lengths = (end: NetEnd): number[] => end.got.map(({ frame }) => frame.length)
const ids = { id: 'f', netdev: 'n' }

test('a buffer keeps frames of its direction until the interval ends, in order', async (t) => {
  const config = { type: 'filter-buffer', ...ids, interval: 20_000, queue: 'rx' } as const
  const { link, network, card } = filtered(t, config)
  t.true(link.isObserved, 'queues of a card are not lent past it')
  link.b.send(batchOf(frameOf(60), frameOf(61)))
  link.b.send(batchOf(frameOf(62)))
  link.a.send(batchOf(frameOf(70)))
  t.deepEqual([lengths(network), lengths(card)], [[], [70]])
  while (network.got.length < 3) await setTimeout(5)
  t.deepEqual(lengths(network), [60, 61, 62])
})

test('what the receiver does not take at the end of the interval comes when it is ready', async (t) => {
  const { link, network } = filtered(t, { type: 'filter-buffer', ...ids, interval: 1000 })
  network.room = 1
  link.b.send(batchOf(frameOf(60), frameOf(61), frameOf(62)))
  while (network.got.length === 0) await setTimeout(2)
  network.room = Infinity
  link.a.ready()
  while (network.got.length < 3) await setTimeout(2)
  t.deepEqual(lengths(network), [60, 61, 62])
})

test('a buffer that is off, or goes, lets go of what it has', (t) => {
  const { link, network, filter } = filtered(t, { type: 'filter-buffer', ...ids, interval: 4e9 })
  link.b.send(batchOf(frameOf(60)))
  t.true(filter.set('status', 'off'))
  t.deepEqual(lengths(network), [60])
  link.b.send(batchOf(frameOf(61)))
  t.deepEqual(lengths(network), [60, 61])
  filter.set('status', 'on')
  link.b.send(batchOf(frameOf(62)))
  t.deepEqual(lengths(network), [60, 61])
  filter.close()
  t.deepEqual(lengths(network), [60, 61, 62])
  link.b.send(batchOf(frameOf(63)))
  t.deepEqual(lengths(network), [60, 61, 62, 63])
  t.false(link.isObserved)
})

test('a buffer takes no more than its share: senders wait', (t) => {
  const { link, network, card, filter } = filtered(t, {
    type: 'filter-buffer',
    ...ids,
    interval: 4e9,
  })
  const batch = batchOf(frameOf(60_000))
  let sent = 0
  while (link.b.send(batch) === batch.used) sent++
  t.true(sent > 200 && sent < 300, `${sent} frames`)
  card.told.length = 0
  filter.set('status', 'off')
  t.is(network.got.length, sent)
  t.true(card.told.includes('resume'))
})

test('two buckets: a burst at its peak, then the average, and debts for large frames', (t) => {
  const bucket = new TokenBucket({ average: 100_000, peak: 1_000_000, burst: 200_000 }, 0)
  const drain = (ms: number): number => {
    bucket.refill(ms)
    let bytes = 0
    for (; bucket.isOpen; bytes += 1000) bucket.take(1000)
    return bytes
  }
  t.is(drain(0), 66_000, 'the least that goes at once')
  t.is(drain(50), 50_000, 'the peak')
  t.is(drain(100), 50_000)
  t.is(drain(150), 49_000, 'what is left of the burst, and 15 kB that came meanwhile')
  t.is(drain(250), 10_000, 'the average')
  t.is(drain(750), 50_000)
  t.true(bucket.openInMs > 0 && bucket.openInMs <= 10)
  bucket.take(65_000)
  t.true(bucket.openInMs > 640)
  bucket.giveBack(65_000)
  // The clock stands or goes back.
  bucket.refill(0)
  t.true(bucket.openInMs <= 10)
})

test('a throttle leaves frames with the sender, and calls it when they may go', async (t) => {
  const config = { type: 'filter-throttle', ...ids, average: 1_000_000 } as const
  const { link, network, card, filter } = filtered(t, config)
  const batch = batchOf(...Array.from({ length: 40 }, () => frameOf(5000)))
  let from = link.b.send(batch)
  const atOnce = network.got.length
  t.is(atOnce, 14, 'those of the least burst')
  t.true(from < batch.used)
  card.resume = () => void (from = link.b.send(batch, from))
  while (from < batch.used) await setTimeout(5)
  t.deepEqual(lengths(network), Array<number>(40).fill(5000))
  // The other direction has a bucket of its own.
  const back = batchOf(frameOf(1000))
  t.is(link.a.send(back), back.used)
  t.is(filter.get('average'), 1_000_000)
})

test('a receiver that takes less is not charged for the rest', (t) => {
  const { link, network } = filtered(t, { type: 'filter-throttle', ...ids, average: 1 })
  network.room = 1
  const batch = batchOf(...Array.from({ length: 10 }, () => frameOf(6000)))
  t.is(link.b.send(batch), batch.next(0))
  network.room = Infinity
  t.is(link.b.send(batch, batch.next(0)), batch.used)
  t.is(network.got.length, 10)
})

test('rates change while frames wait, and the filter lets go when it is removed', (t) => {
  const { link, network, card, filter } = filtered(t, {
    type: 'filter-throttle',
    ...ids,
    average: 1,
  })
  const batch = batchOf(...Array.from({ length: 20 }, () => frameOf(6000)))
  let from = link.b.send(batch)
  t.true(from < batch.used)
  card.resume = () => void (from = link.b.send(batch, from))
  t.true(filter.set('burst', 100_000))
  t.true(from < batch.used, 'a larger bucket is not a full one')
  filter.close()
  t.is(from, batch.used)
  t.is(network.got.length, 20)
})

test('impossible values are refused, by options and while it runs', (t) => {
  const link = Link.connect(new NetEnd(), new NetEnd())
  const open = (config: object): NetworkFilter =>
    openFilter({ ...ids, ...config } as NetworkFilterConfig, {
      addGate: (_id, fromCard, gate) => link.addGate(fromCard ? link.b : link.a, gate),
    })
  for (const interval of [0, -1, 1.5, 2 ** 32, '5', undefined]) {
    t.throws(() => open({ type: 'filter-buffer', interval }), {
      message: /requires a positive value/,
    })
  }
  for (const rates of [{ average: 0 }, { average: 5, peak: 4 }, { average: 1, burst: -1 }, {}]) {
    t.throws(() => open({ type: 'filter-throttle', ...rates }), { code: 'E_CONFIG' })
  }
  t.false(link.isObserved)
  const buffer = open({ type: 'filter-buffer', interval: 5000 })
  t.throws(() => buffer.set('status', 'maybe'), { message: /use on or off/ })
  t.false(buffer.set('netdev', 'm'))
  buffer.close()
  const { refusal } = commandLine('-kernel', 'k', '-nographic')
  t.regex(refusal('-object', 'filter-buffer,id=b,netdev=n'), /'interval' is missing/)
  t.regex(refusal('-object', 'filter-buffer,id=b,netdev=n,interval=0'), /requires a positive value/)
  t.regex(refusal('-object', 'filter-throttle,id=b,netdev=n'), /'average' is missing/)
  t.regex(refusal('-object', 'filter-throttle,id=b,netdev=n,average=x'), /average/)
  t.regex(refusal('-object', 'filter-throttle,id=b,netdev=n,average=1,rate=2'), /rate/)
})

test('filters come, change and go by QMP', async (t) => {
  const filter = { path: '/objects/f' }
  const add = (type: string, more: object) => ({
    execute: 'object-add',
    arguments: { 'qom-type': type, id: 'f', netdev: 'n', ...more },
  })
  const get = (property: string) => ({ execute: 'qom-get', arguments: { ...filter, property } })
  const set = (property: string, value: unknown) => ({
    execute: 'qom-set',
    arguments: { ...filter, property, value },
  })
  const remove = { execute: 'object-del', arguments: { id: 'f' } }
  const answers = await runOurs(
    '.',
    ['-netdev', 'user,id=n', '-device', 'e1000,netdev=n,romfile='],
    [
      { execute: 'qmp_capabilities' },
      add('filter-buffer', { interval: 5000, status: 'off' }),
      get('interval'),
      get('status'),
      set('status', 'on'),
      get('status'),
      set('interval', 0),
      set('netdev', 'm'),
      { execute: 'qom-list', arguments: { path: '/objects' } },
      remove,
      get('interval'),
      add('filter-throttle', { average: 1000, queue: 'tx' }),
      set('average', 5000),
      set('burst', 1_000_000),
      get('average'),
      get('burst'),
      remove,
      add('filter-throttle', { average: 0 }),
      add('filter-throttle', { average: 1, netdev: 'x' }),
    ],
  )
  t.deepEqual(
    answers.slice(1).map((answer) => answer.return ?? answer.error?.desc),
    [
      {},
      5000,
      'off',
      {},
      'on',
      "Property 'filter-buffer.interval' requires a positive value, not '0': use 1 to 4294967295",
      'Insufficient permission to perform this operation',
      [
        { name: 'type', type: 'string' },
        { name: 'f', type: 'child<filter-buffer>' },
      ],
      {},
      "Device '/objects/f' not found",
      {},
      {},
      {},
      5000,
      1_000_000,
      {},
      "Property 'filter-throttle.average' doesn't take value '0': it is in bytes per second, from 1",
      "there is no netdev 'x' with a card",
    ],
  )
})
