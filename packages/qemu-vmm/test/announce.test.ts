// Cards that tell the network where they are: after a state was loaded, and when the monitor asks.
import test from 'ava'
import { NetEnd } from 'virtio/testing'
import { SeededEntropy } from '../src/machine/entropy.ts'
import { Announcer, DEFAULT_ANNOUNCEMENT } from '../src/net/announce.ts'
import type { Later } from '../src/net/announce.ts'
import { Netdevs } from '../src/net/netdevs.ts'

/** Pauses as they are asked for; `pass` lets the first one end. */
function manual(): { later: Later; pauses: number[]; pass(): boolean } {
  const pauses: number[] = []
  const waiting: (() => void)[] = []
  return {
    pauses,
    later(ms, fn) {
      pauses.push(ms)
      waiting.push(fn)
      return () => void waiting.splice(waiting.indexOf(fn), 1)
    },
    pass() {
      const fn = waiting.shift()
      fn?.()
      return fn !== undefined
    },
  }
}

class Card extends NetEnd {
  announced = 0
  announce(): void {
    this.announced++
  }
}

/** Two cards at a hub, and a third port that listens. */
function hub(): { nets: Netdevs; cards: Card[]; listener: NetEnd } {
  const nets = new Netdevs({ entropy: new SeededEntropy(1), log() {} })
  const cards = [new Card(), new Card()]
  const listener = new NetEnd()
  for (const [i, end] of [...cards, listener].entries()) {
    nets.add({ type: 'hubport', id: `p${i}`, hub: 0 })
    const card = { name: `c${i}`, model: 'm', mac: `02:00:00:00:00:0${i}` }
    if (end !== listener) nets.take(`p${i}`, card).attach(end)
  }
  // What listens is no card, and is not announced.
  nets.add({ type: 'hubport', id: 'in', hub: 0 })
  nets.take('in', { name: 'listener', model: 'm', mac: '02:00:00:00:00:09' }).attach(listener)
  return { nets, cards, listener }
}

test('rounds follow with pauses that grow to a limit', (t) => {
  let count = 0
  const announcer = new Announcer(() => void count++)
  const { later, pauses, pass } = manual()
  announcer.start({ ...DEFAULT_ANNOUNCEMENT, rounds: 8 }, later)
  for (let round = 1; round <= 8; round++) {
    t.true(pass())
    t.is(count, round)
  }
  t.false(pass())
  t.deepEqual(pauses, [0, 50, 150, 250, 350, 450, 550, 550])
  announcer.start({ ...DEFAULT_ANNOUNCEMENT, rounds: 0 }, later)
  t.false(pass())
})

test('one replaces another of its name, and all can be stopped', (t) => {
  const told: string[] = []
  const announcer = new Announcer((cards) => void told.push(cards.join()))
  const { later, pass } = manual()
  announcer.start({ ...DEFAULT_ANNOUNCEMENT, cards: ['a'] }, later)
  announcer.start({ ...DEFAULT_ANNOUNCEMENT, cards: ['b'], id: 'x' }, later)
  announcer.start({ ...DEFAULT_ANNOUNCEMENT, cards: ['c'], rounds: 1 }, later)
  t.true(pass())
  t.true(pass())
  t.deepEqual(told, ['b', 'c'])
  announcer.stop()
  t.false(pass())
  for (let i = 0; i < 64; i++) announcer.start({ ...DEFAULT_ANNOUNCEMENT, id: `${i}` }, later)
  const many = t.throws(() => announcer.start(DEFAULT_ANNOUNCEMENT, later))
  t.like(many, { code: 'E_NETDEV' })
})

for (const [name, value] of [
  ['initial', -1],
  ['max', 100_001],
  ['rounds', 1001],
  ['step', 0.5],
] as const) {
  test(`${name} cannot be ${value}`, (t) => {
    const announcer = new Announcer(() => t.fail())
    const error = t.throws(() => announcer.start({ ...DEFAULT_ANNOUNCEMENT, [name]: value }))
    t.like(error, { code: 'E_NETDEV' })
    t.regex(error?.message ?? '', new RegExp(`'${name}' is ${value}: it can be 0 to`))
  })
}

test('each card that is meant sends a request for its own address, and is told to say more', async (t) => {
  const { nets, cards, listener } = hub()
  t.teardown(() => nets.close())
  const once = { ...DEFAULT_ANNOUNCEMENT, rounds: 1 }
  await nets.change({ announce: { ...once, cards: ['c1', 'unknown'] } })
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.deepEqual(
    cards.map(({ announced }) => announced),
    [0, 1],
  )
  t.is(listener.got.length, 1)
  const mac = [2, 0, 0, 0, 0, 1]
  const { frame } = listener.got[0]!
  t.is(frame.length, 60)
  t.deepEqual(
    [...frame.subarray(0, 22)],
    [...Array<number>(6).fill(255), ...mac, 0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3],
  )
  t.deepEqual([...frame.subarray(22, 42)], [...mac, 0, 0, 0, 0, ...mac, 0, 0, 0, 0])
  t.true(frame.subarray(42).every((byte) => byte === 0))
})

test('after a state was loaded all cards do so, as soon as the machine runs', (t) => {
  const { nets, cards, listener } = hub()
  t.teardown(() => nets.close())
  const { later, pass } = manual()
  nets.load({}, later)
  t.is(listener.got.length, 0)
  t.true(pass())
  t.deepEqual(
    cards.map(({ announced }) => announced),
    [1, 1],
  )
  t.deepEqual(
    listener.got.map(({ frame }) => frame[11]),
    [0, 1],
  )
  // A cable that was pulled out carries nothing.
  nets.setLink('c0', false)
  t.true(pass())
  t.is(listener.got.length, 3)
  nets.close()
  t.false(pass())
})
