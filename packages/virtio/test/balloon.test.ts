import test from 'ava'
import * as fc from 'fast-check'
import { createBalloon } from 'virtio'
import type { BalloonOptions, BalloonStats } from 'virtio'
import { FakeDriver, FakeMemory, InterruptCounter } from 'virtio/testing'

const INFLATE = 0
const DEFLATE = 1
const STATS = 2
const REPORTING = 3
const AT = 0x2_0000
const PAGE = 4096
const VERSION_1 = 1n << 32n
const EVENT_IDX = 1n << 29n

function connect(changes: Partial<BalloonOptions> = {}, features?: bigint) {
  const memory = new FakeMemory()
  const discarded: [number, number][] = []
  const actuals: number[] = []
  const stats: BalloonStats[] = []
  const failures: unknown[] = []
  const device = createBalloon({
    memory,
    discard: (gpa, length) => discarded.push([gpa, length]),
    onActual: (pages) => actuals.push(pages),
    onStats: (told) => stats.push(told),
    onFailure: (error) => failures.push(error),
    ...changes,
  })
  const driver = FakeDriver.direct(memory, device)
  const interrupts = new InterruptCounter()
  device.connect(interrupts)
  driver.start(features === undefined ? {} : { features })
  /** Sends a list of words in a chain of buffers with so many words each. */
  const send = (queue: number, words: number[], each = words.length): void => {
    const view = memory.view(AT, 4 * words.length)
    for (const [i, word] of words.entries()) view.setUint32(4 * i, word, true)
    const buffers = []
    for (let i = 0; i < words.length; i += each) {
      buffers.push({ gpa: AT + 4 * i, length: 4 * Math.min(each, words.length - i) })
    }
    driver.queue(queue).submit(buffers)
    driver.kick(queue)
  }
  const tell = (entries: [number, bigint][], extra = 0): void => {
    const view = memory.view(AT, 10 * entries.length + extra)
    for (const [i, [tag, value]] of entries.entries()) {
      view.setUint16(10 * i, tag, true)
      view.setBigUint64(10 * i + 2, value, true)
    }
    driver.queue(STATS).submit([{ gpa: AT, length: 10 * entries.length + extra }])
    driver.kick(STATS)
  }
  return { memory, device, driver, interrupts, send, tell, discarded, actuals, stats, failures }
}

test('what is offered is what options say', (t) => {
  const word = (options: Partial<BalloonOptions>): bigint =>
    connect(options).driver.access.offeredFeatures() & 0xff_ffffn
  t.is(word({}), (1n << 1n) | (1n << 4n))
  t.is(word({ pagePoison: false, deflateOnOom: true }), (1n << 1n) | (1n << 2n))
  t.is(word({ pagePoison: false, freePageReporting: true }), (1n << 1n) | (1n << 5n))
  t.is(connect().device.queues.length, 3)
  t.is(connect({ freePageReporting: true }).device.queues.length, 4)
})

test('the host asks by the configuration, and the driver answers there', (t) => {
  const { device, interrupts, actuals } = connect()
  device.model.setWanted(0x1234)
  t.is(interrupts.configs, 1)
  t.is(device.configRead(0, 4), 0x1234)
  device.configWrite(0, 4, 7)
  t.is(device.configRead(0, 4), 0x1234, 'what is wanted is not the driver to write')
  device.configWrite(4, 4, 0x1200)
  device.configWrite(4, 4, 0x1200)
  t.deepEqual([device.model.actual, actuals], [0x1200, [0x1200]])
  device.configWrite(4, 1, 0x01)
  t.is(device.model.actual, 0x1201)
  device.configWrite(8, 4, 5)
  t.is(device.configRead(8, 4), 0, 'no hints')
  device.configWrite(12, 4, 0xaaaa_aaaa)
  t.is(device.configRead(12, 4), 0xaaaa_aaaa)
  device.reset()
  t.deepEqual([device.model.actual, device.model.wanted], [0, 0x1234])
  t.is(actuals.at(-1), 0)
})

test('pages that are put in are given back to the host, neighbours together', (t) => {
  const { send, discarded, driver } = connect()
  send(INFLATE, [5, 6, 7, 100, 99, 98, 3], 2)
  t.deepEqual(discarded, [
    [5 * PAGE, 3 * PAGE],
    [98 * PAGE, 3 * PAGE],
    [3 * PAGE, PAGE],
  ])
  t.like(driver.queue(INFLATE).takeUsed(), [{ written: 0 }])
  discarded.length = 0
  send(INFLATE, [0xffff_ffff, 0])
  t.deepEqual(discarded, [
    [0xffff_ffff * PAGE, PAGE],
    [0, PAGE],
  ])
  discarded.length = 0
  send(DEFLATE, [5, 6])
  t.deepEqual(discarded, [])
  t.is(driver.queue(DEFLATE).takeUsed().length, 1)
})

test('a list that never ends is cut', (t) => {
  const { memory, driver, discarded } = connect()
  memory.write(AT, new Uint8Array(4096))
  const buffers = Array.from({ length: 64 }, () => ({ gpa: 0, length: 0x10_0000 }))
  driver.queue(INFLATE).submit(buffers)
  driver.kick(INFLATE)
  t.true(discarded.reduce((sum, [, length]) => sum + length, 0) <= 65_536 * PAGE)
  t.is(driver.queue(INFLATE).takeUsed().length, 1)
})

test('a host that cannot take pages is told of once', (t) => {
  const error = new Error('no')
  const { send, failures, driver } = connect({
    discard: () => {
      throw error
    },
  })
  send(INFLATE, [1, 3, 5])
  send(INFLATE, [7])
  t.deepEqual(failures, [error])
  t.is(driver.queue(INFLATE).takeUsed().length, 2)
})

for (const features of [VERSION_1 | 2n, VERSION_1 | EVENT_IDX | 2n]) {
  test(`statistics come when they are asked for (${features.toString(16)})`, (t) => {
    const { device, driver, tell, stats, interrupts } = connect({}, features)
    const queue = driver.queue(STATS)
    device.model.requestStats()
    t.deepEqual(stats, [])
    for (let round = 1n; round < 70n; round++) {
      tell([
        [4, round << 40n],
        [5, 2n ** 64n - 1n],
        [77, 1n],
      ])
      t.deepEqual(stats.splice(0), [{ freeMemory: round << 40n, totalMemory: 2n ** 64n - 1n }])
      t.deepEqual(queue.takeUsed(), [], 'it is kept')
      device.resume()
      t.deepEqual(stats, [], 'and not looked at again')
      queue.setUsedEvent(queue.lastUsed)
      device.model.requestStats()
      t.is(queue.takeUsed().length, 1)
      t.is(interrupts.queues.filter((index) => index === STATS).length, Number(round))
    }
  })
}

test('a driver that tells without being asked gets its buffers back', (t) => {
  const { driver, tell, stats } = connect()
  tell([[0, 1n]], 3)
  tell([[0, 2n]])
  t.deepEqual(stats, [{ swapIn: 1n }, { swapIn: 2n }])
  t.is(driver.queue(STATS).takeUsed().length, 1)
  tell([])
  t.is(driver.queue(STATS).takeUsed().length, 1)
})

test('pages that are reported are given back unless they are poisoned', (t) => {
  const { device, driver, discarded } = connect({ freePageReporting: true })
  const report = (): void => {
    driver.queue(REPORTING).submit([
      { gpa: 0x40_0000, length: 0x20_0000, writable: true },
      { gpa: 0x80_0000, length: 0x40_0000, writable: true },
    ])
    driver.kick(REPORTING)
  }
  report()
  t.deepEqual(discarded, [
    [0x40_0000, 0x20_0000],
    [0x80_0000, 0x40_0000],
  ])
  device.configWrite(12, 4, 1)
  report()
  t.is(discarded.length, 2)
  t.is(driver.queue(REPORTING).takeUsed().length, 2)
})

test('a loaded balloon goes on with the statistics that it keeps', async (t) => {
  const one = connect()
  one.device.model.setWanted(77)
  one.device.configWrite(4, 4, 70)
  one.tell([[4, 5n]])
  await one.device.quiesce()
  const state = structuredClone(one.device.save())
  const stats: BalloonStats[] = []
  const { memory } = one
  const other = createBalloon({ memory, discard() {}, onStats: (told) => stats.push(told) })
  other.load(state)
  other.resume()
  t.deepEqual(stats, [])
  t.deepEqual([other.model.wanted, other.model.actual], [77, 70])
  t.deepEqual(other.save(), state)
  other.model.requestStats()
  t.is(one.driver.queue(STATS).takeUsed().length, 1)
  t.throws(() => other.load({ ...state, model: { wanted: -1 } }), { code: 'E_STATE' })
})

test('nothing that a driver writes breaks it', (t) => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.tuple(fc.constant('config'), fc.nat(20), fc.constantFrom(1, 2, 4), fc.nat(2 ** 31)),
          fc.tuple(fc.constant('send'), fc.nat(3), fc.nat(0x30_0000), fc.nat(0x8000)),
          fc.constant(['reset'] as const),
          fc.constant(['ask'] as const),
        ),
        { maxLength: 40 },
      ),
      (steps) => {
        const { device, driver } = connect({ freePageReporting: true })
        for (const [kind, a = 0, b = 0, c = 0] of steps as [string, number, number, number][]) {
          if (kind === 'config') device.configWrite(a, b, c)
          else if (kind === 'ask') device.model.requestStats()
          else if (kind === 'reset') driver.start()
          else if (driver.queue(a).freeDescriptors > 0) {
            driver.queue(a).submit([{ gpa: b, length: c + 1, writable: c % 3 === 0 }])
            driver.access.notify(a)
            driver.queue(a).takeUsed()
          }
        }
        t.is(device.inFlight, 0, JSON.stringify(steps))
      },
    ),
    { numRuns: 200 },
  )
})
