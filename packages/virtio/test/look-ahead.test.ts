// A queue looks up all chains that are available at once: nobody may notice.
import test from 'ava'
import { type DescriptorChain, VirtioError, Virtqueue } from 'virtio'
import { DATA, TABLE, connect } from './queues.ts'

test('what was looked up but not popped is as if it had not been seen', (t) => {
  const { driver, queue, memory } = connect()
  const request = [
    { gpa: DATA, length: 16 },
    { gpa: DATA + 0x200, length: 512, writable: true },
    { gpa: DATA + 0x100, length: 1, writable: true },
  ]
  // The first round makes the chains; in the second one pop looks up both.
  for (let round = 0; round < 2; round++) {
    const heads = [driver.submit(request), driver.submit(request)]
    const first = queue.popChain()!
    t.is(queue.inFlight, 1)
    const state = queue.save()
    t.deepEqual(state.inFlight, [heads[0]!])
    t.is(state.lastAvail, 2 * round + 1)
    const copy = new Virtqueue(memory, 0, 256)
    copy.load(state, { eventIdx: false, indirect: true })
    t.deepEqual(
      [copy.popChain()?.head, copy.popChain()?.head, copy.popChain()],
      [...heads, undefined],
    )
    queue.unpop(first)
    t.is(queue.inFlight, 0)
    let drained = 0
    queue.onDrained = () => void drained++
    for (const head of heads) {
      const chain = queue.popChain()!
      t.is(chain.head, head)
      queue.pushUsed(chain, 1)
    }
    t.is(drained, 2)
    queue.shouldNotify()
    driver.takeUsed()
  }
  driver.submit(request)
  driver.submit(request)
  const outstanding = queue.popChain()!
  queue.reset()
  t.is(queue.popChain(), undefined)
  t.is(queue.inFlight, 1)
  queue.pushUsed(outstanding, 0)
  t.is(queue.inFlight, 0)
})

test('good chains before a bad one are popped, and the bad one is refused then', (t) => {
  const { driver, queue } = connect()
  const good = [
    { gpa: DATA, length: 16 },
    { gpa: DATA + 0x200, length: 1, writable: true },
  ]
  for (let round = 0; round < 2; round++) {
    const heads = [driver.submit(good), driver.submit(good)]
    const bad = [
      { gpa: DATA, length: 1, writable: true },
      { gpa: DATA, length: 1 },
    ]
    if (round === 1) driver.submit(bad)
    for (const head of heads) {
      const chain = queue.popChain()!
      t.is(chain.head, head)
      queue.pushUsed(chain, 0)
    }
    queue.shouldNotify()
    driver.takeUsed()
  }
  t.throws(() => queue.popChain(), { instanceOf: VirtioError, code: 'E_DESCRIPTOR_ORDER' })
  t.is(queue.save().lastAvail, 4)
  t.is(queue.inFlight, 0)
})

test('chains come back in any order and are told apart', (t) => {
  const { driver, queue } = connect({ size: 16 })
  let random = 1
  for (let round = 0; round < 500; round++) {
    const lengths = new Map<number, number>()
    const count = 1 + (round % 5)
    for (let i = 0; i < count; i++) {
      const length = 1 + i + (round % 7)
      const buffers = [
        { gpa: DATA, length },
        { gpa: DATA + 0x200, length: 2 * length, writable: true },
        { gpa: DATA + 0x400, length: 1, writable: true },
      ]
      lengths.set(driver.submit(buffers, round % 3 === 0 ? TABLE + 0x40 * i : undefined), length)
    }
    const chains: DescriptorChain[] = []
    for (let chain = queue.popChain(); chain !== undefined; chain = queue.popChain()) {
      chains.push(chain)
    }
    t.is(chains.length, count)
    while (chains.length > 0) {
      random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0
      const [chain] = chains.splice((random >>> 16) % chains.length, 1)
      const length = lengths.get(chain!.head)!
      t.is(chain!.readableBytes, length)
      t.is(chain!.writableBytes, 2 * length + 1)
      queue.pushUsed(chain!, length)
    }
    queue.shouldNotify()
    for (const { head, written } of driver.takeUsed()) t.is(written, lengths.get(head)!)
    t.is(queue.inFlight, 0)
  }
})
