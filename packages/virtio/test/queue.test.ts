import test from 'ava'
import {
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VirtioError,
  type VirtioErrorCode,
  Virtqueue,
} from 'virtio'
import { DriverQueue, FakeMemory } from 'virtio/testing'
import { DATA, TABLE, connect, place } from './queues.ts'

const code = (expected: VirtioErrorCode): { instanceOf: typeof VirtioError; code: string } => ({
  instanceOf: VirtioError,
  code: expected,
})

test('a chain comes with its readable and writable buffers and goes back used', (t) => {
  const { driver, queue, memory } = connect()
  memory.write(DATA, Uint8Array.from([1, 2, 3, 4, 5]))
  const head = driver.submit([
    { gpa: DATA, length: 2 },
    { gpa: DATA + 2, length: 3 },
    { gpa: DATA + 0x100, length: 4, writable: true },
  ])
  const chain = queue.popChain()!
  t.is(queue.popChain(), undefined)
  t.is(chain.readableBytes, 5)
  t.is(chain.writableBytes, 4)
  const target = new Uint8Array(4)
  t.is(chain.read(1, target), 4)
  t.deepEqual([...target], [2, 3, 4, 5])
  memory.written.length = 0
  t.is(chain.write(1, Uint8Array.from([9, 8, 7, 6])), 3)
  t.deepEqual(memory.written, [{ gpa: DATA + 0x101, length: 3 }])
  queue.pushUsed(chain, 4)
  t.deepEqual(driver.takeUsed(), [], 'published with the batch')
  t.true(queue.shouldNotify())
  t.deepEqual(driver.takeUsed(), [{ head, written: 4 }])
  t.true(memory.written.some(({ gpa }) => gpa === driver.layout.usedGpa))
  t.throws(() => queue.pushUsed(chain, 0), { instanceOf: TypeError })
})

test('an indirect table holds a chain, also one that is not aligned or crosses pages', (t) => {
  for (const table of [TABLE, TABLE + 4, TABLE + 0x1000 - 24, TABLE + 7]) {
    const { driver, queue } = connect()
    driver.submit(
      [
        { gpa: DATA, length: 16 },
        { gpa: DATA + 0x200, length: 512, writable: true },
        { gpa: DATA + 0x100, length: 1, writable: true },
      ],
      table,
    )
    const chain = queue.popChain()!
    t.deepEqual(Array.from(chain.gpas.subarray(0, 3)), [DATA, DATA + 0x200, DATA + 0x100])
    t.deepEqual(Array.from(chain.lengths.subarray(0, 3)), [16, 512, 1])
    t.is(chain.readableCount, 1)
  }
})

test('descriptors of length zero are left out', (t) => {
  const { driver, queue } = connect()
  driver.submit([
    { gpa: 0xdead_0000, length: 0 },
    { gpa: DATA, length: 1 },
    { gpa: 0, length: 0, writable: true },
  ])
  const chain = queue.popChain()!
  t.is(chain.count, 1)
  t.is(chain.writableBytes, 0)
})

test('chains of very long or very many buffers are as good as short ones', (t) => {
  const memory = new FakeMemory([{ gpa: 0, bytes: 1 << 26 }])
  const { driver, queue } = connect({ memory, size: 256 })
  driver.submit([
    { gpa: 0, length: 2 ** 24 + 1 },
    { gpa: 0, length: 2 ** 31, writable: true },
    { gpa: 0, length: 2 ** 30, writable: true },
  ])
  const long = queue.popChain()!
  t.deepEqual([...long.lengths.subarray(0, long.count)], [2 ** 24 + 1, 2 ** 31, 2 ** 30])
  t.is(long.readableBytes, 2 ** 24 + 1)
  t.is(long.writableBytes, 2 ** 31 + 2 ** 30)
  for (const table of [undefined, 0x10_0000]) {
    const buffers = Array.from({ length: 100 }, (_, i) => ({
      gpa: DATA + i,
      length: 2 ** 22,
      writable: i >= 60,
    }))
    driver.submit(buffers, table)
    const many = queue.popChain()!
    t.is(many.count, 100)
    t.is(many.readableCount, 60)
    t.is(many.readableBytes, 60 * 2 ** 22)
    t.is(many.writableBytes, 40 * 2 ** 22)
    t.is(many.gpas[99], DATA + 99)
    queue.pushUsed(many, 0)
    driver.submit([{ gpa: DATA, length: 1 }])
    t.is(queue.popChain()!.count, 1)
  }
})

test('a queue that becomes smaller has fewer chains', (t) => {
  const { memory, driver, queue } = connect({ size: 8 })
  for (let i = 0; i < 8; i++) driver.submit([{ gpa: DATA, length: 1 }])
  const chains = Array.from({ length: 8 }, () => queue.popChain()!)
  queue.reset()
  for (const chain of chains) queue.pushUsed(chain, 0)
  const small = new DriverQueue(memory, { gpa: 0x1000, size: 2 })
  place(queue, small.layout)
  queue.enable({ eventIdx: false, indirect: false })
  small.submit([{ gpa: DATA, length: 1 }])
  small.submit([{ gpa: DATA, length: 1 }])
  t.truthy(queue.popChain())
  const second = queue.popChain()!
  small.offer(0)
  small.setAvailIdx(3)
  t.throws(() => queue.popChain(), code('E_AVAIL_INDEX'))
  queue.pushUsed(second, 0)
  t.truthy(queue.popChain())
})

test('a buffer may cross from one piece of RAM into the next', (t) => {
  const memory = new FakeMemory([
    { gpa: 0, bytes: 0x1_0000 },
    { gpa: 0x1_0000, bytes: 0x1_0000 },
  ])
  const { driver, queue } = connect({ memory })
  memory.write(0xfffe, Uint8Array.from([1, 2, 3, 4]))
  driver.submit([
    { gpa: 0xfffe, length: 4 },
    { gpa: 0xfff0, length: 0x20, writable: true },
  ])
  const chain = queue.popChain()!
  const target = new Uint8Array(4)
  chain.read(0, target)
  t.deepEqual([...target], [1, 2, 3, 4])
  t.deepEqual(
    chain.writableViews(8, 0x10).map((view) => view.length),
    [8, 8],
  )
  chain.write(0x0e, Uint8Array.from([7, 7, 7, 7]))
  t.deepEqual([...memory.read(0xfffe, 4)], [7, 7, 7, 7])
})

const broken: [string, VirtioErrorCode, (driver: DriverQueue, memory: FakeMemory) => void][] = [
  [
    'a loop',
    'E_CHAIN_LOOP',
    (driver) => {
      driver.writeRaw(0, { gpa: DATA, length: 1, flags: 1, next: 1 })
      driver.writeRaw(1, { gpa: DATA, length: 1, flags: 1, next: 0 })
      driver.offer(0)
    },
  ],
  ['a head beyond the table', 'E_DESCRIPTOR_INDEX', (driver) => driver.offer(8)],
  [
    'a next beyond the table',
    'E_DESCRIPTOR_INDEX',
    (driver) => {
      driver.writeRaw(0, { gpa: DATA, length: 1, flags: 1, next: 8 })
      driver.offer(0)
    },
  ],
  ['too many chains', 'E_AVAIL_INDEX', (driver) => driver.setAvailIdx(9)],
  ['an index that goes back', 'E_AVAIL_INDEX', (driver) => driver.setAvailIdx(0xffff)],
  [
    'a readable descriptor after a writable one',
    'E_DESCRIPTOR_ORDER',
    (driver) => {
      driver.submit([
        { gpa: DATA, length: 1, writable: true },
        { gpa: DATA, length: 1 },
      ])
    },
  ],
  [
    'an address beyond 2^53',
    'E_GUEST_ADDRESS',
    (driver) => {
      driver.writeRaw(0, { gpa: (1n << 64n) - 1n, length: 1, flags: 0, next: 0 })
      driver.offer(0)
    },
  ],
  [
    '4 GiB',
    'E_CHAIN_LENGTH',
    (driver) => {
      driver.submit([
        { gpa: DATA, length: 0xffff_ffff, writable: true },
        { gpa: DATA, length: 1, writable: true },
      ])
    },
  ],
  [
    'an empty indirect table',
    'E_INDIRECT',
    (driver) => {
      driver.writeRaw(0, { gpa: TABLE, length: 0, flags: 4, next: 0 })
      driver.offer(0)
    },
  ],
  [
    'a torn indirect table',
    'E_INDIRECT',
    (driver) => {
      driver.writeRaw(0, { gpa: TABLE, length: 17, flags: 4, next: 0 })
      driver.offer(0)
    },
  ],
  [
    'an indirect descriptor with a next',
    'E_INDIRECT',
    (driver) => {
      driver.writeRaw(0, { gpa: TABLE, length: 16, flags: 5, next: 1 })
      driver.offer(0)
    },
  ],
  [
    'an indirect table in an indirect table',
    'E_INDIRECT',
    (driver, memory) => {
      driver.writeRaw(0, { gpa: TABLE, length: 16, flags: 4, next: 0 })
      const inner = { gpa: TABLE, length: 16, flags: 4, next: 0 }
      driver.writeRaw(0, inner, memory.view(TABLE, 16))
      driver.offer(0)
    },
  ],
  [
    'a loop in an indirect table',
    'E_CHAIN_LOOP',
    (driver, memory) => {
      driver.writeRaw(0, { gpa: TABLE, length: 16, flags: 4, next: 0 })
      driver.writeRaw(0, { gpa: DATA, length: 1, flags: 1, next: 0 }, memory.view(TABLE, 16))
      driver.offer(0)
    },
  ],
  [
    'an indirect table in a hole',
    'E_GUEST_ADDRESS',
    (driver) => {
      driver.writeRaw(0, { gpa: 0x4000_0000, length: 16, flags: 4, next: 0 })
      driver.offer(0)
    },
  ],
]

for (const [name, expected, prepare] of broken) {
  test(`a ring with ${name} is refused and stays where it was`, (t) => {
    const { driver, queue, memory } = connect()
    prepare(driver, memory)
    const before = queue.save()
    t.throws(() => queue.popChain(), code(expected))
    t.throws(() => queue.popChain(), code(expected))
    t.deepEqual(queue.save(), before)
    t.is(queue.inFlight, 0)
  })
}

test('an indirect table that was not negotiated is refused', (t) => {
  const { driver, queue } = connect({ indirect: false })
  driver.submit([{ gpa: DATA, length: 1 }], TABLE)
  t.throws(() => queue.popChain(), code('E_INDIRECT'))
})

test('one head made available again and again stops at the size of the queue', (t) => {
  const { driver, queue } = connect()
  driver.writeRaw(0, { gpa: DATA, length: 1, flags: 0, next: 0 })
  for (let i = 0; i < 8; i++) {
    driver.offer(0)
    t.truthy(queue.popChain())
  }
  driver.offer(0)
  t.throws(() => queue.popChain(), code('E_AVAIL_INDEX'))
})

test('places where no queue can be are refused', (t) => {
  const rom = { gpa: 0x20_0000, bytes: 0x1000, readOnly: true }
  const memory = new FakeMemory([{ gpa: 0, bytes: 0x10_0000 }, rom])
  const good = { size: 8, descGpa: 0x1000, availGpa: 0x2000, usedGpa: 0x3000 }
  const bad: [Partial<typeof good>, VirtioErrorCode][] = [
    [{ size: 0 }, 'E_QUEUE_SIZE'],
    [{ size: 7 }, 'E_QUEUE_SIZE'],
    [{ size: 512 }, 'E_QUEUE_SIZE'],
    [{ size: 0x8000 }, 'E_QUEUE_SIZE'],
    [{ descGpa: 0x1008 }, 'E_QUEUE_ALIGNMENT'],
    [{ availGpa: 0x2001 }, 'E_QUEUE_ALIGNMENT'],
    [{ usedGpa: 0x3002 }, 'E_QUEUE_ALIGNMENT'],
    [{ descGpa: 0xf_fff0 }, 'E_GUEST_ADDRESS'],
    [{ availGpa: 0x18_0000 }, 'E_GUEST_ADDRESS'],
    [{ usedGpa: 0x20_0000 }, 'E_GUEST_ADDRESS'],
    [{ usedGpa: 2 ** 53 - 4 }, 'E_GUEST_ADDRESS'],
    [{ descGpa: 2 ** 63 }, 'E_GUEST_ADDRESS'],
    [{ usedGpa: 0x1040 }, 'E_QUEUE_OVERLAP'],
    [{ availGpa: 0x3000 }, 'E_QUEUE_OVERLAP'],
  ]
  for (const [change, expected] of bad) {
    const queue = new Virtqueue(memory, 0, 256)
    place(queue, { ...good, ...change })
    t.throws(() => queue.enable({ eventIdx: true, indirect: true }), code(expected))
    t.false(queue.ready)
    t.is(queue.popChain(), undefined)
  }
  const queue = new Virtqueue(memory, 0, 256)
  place(queue, { ...good, descGpa: rom.gpa })
  queue.enable({ eventIdx: true, indirect: true })
  t.true(queue.ready, 'the device never writes the descriptor table')
})

test('rings that leave RAM while they are in use are an error at the next use', (t) => {
  const { driver, queue, memory } = connect()
  driver.submit([{ gpa: DATA, length: 1 }])
  memory.generation++
  t.truthy(queue.popChain(), 'a change elsewhere changes nothing')
  memory.window = () => {
    throw new VirtioError('E_GUEST_ADDRESS', 'gone')
  }
  memory.generation++
  t.throws(() => queue.popChain(), code('E_GUEST_ADDRESS'))
})

test('unpopped chains are the next to pop, in a loaded queue as well', (t) => {
  const { driver, queue, memory } = connect()
  const heads = [1, 2, 3].map((length) => driver.submit([{ gpa: DATA, length }]))
  const first = queue.popChain()!
  const second = queue.popChain()!
  queue.unpop(second)
  queue.unpop(first)
  t.is(queue.inFlight, 0)
  t.is(queue.popChain()!.head, heads[0]!)
  const copy = new Virtqueue(memory, 0, 256)
  copy.load(queue.save(), { eventIdx: false, indirect: true })
  t.deepEqual(
    [copy.popChain()?.head, copy.popChain()?.head, copy.popChain()?.head, copy.popChain()],
    [...heads, undefined],
  )
})

test('after a reset an outstanding chain touches nothing', (t) => {
  const { driver, queue, memory } = connect()
  driver.submit([{ gpa: DATA, length: 8, writable: true }])
  const chain = queue.popChain()!
  let drained = 0
  queue.onDrained = () => void drained++
  queue.reset()
  const before = memory.snapshot()
  memory.written.length = 0
  t.is(chain.write(0, new Uint8Array(8).fill(1)), 0)
  queue.pushUsed(chain, 8)
  t.false(queue.shouldNotify())
  t.deepEqual(memory.snapshot(), before)
  t.deepEqual(memory.written, [])
  t.is(drained, 1)
  t.is(queue.size, 256)
})

test('the driver is told to kick only while the device waits', (t) => {
  for (const eventIdx of [false, true]) {
    const { driver, queue } = connect({ eventIdx })
    driver.submit([{ gpa: DATA, length: 1 }])
    t.true(driver.needsKick())
    queue.disableNotification()
    driver.submit([{ gpa: DATA, length: 1 }])
    t.false(driver.needsKick())
    t.true(queue.enableNotification(), 'chains came meanwhile')
    while (queue.popChain() !== undefined);
    t.false(queue.enableNotification())
    driver.submit([{ gpa: DATA, length: 1 }])
    t.true(driver.needsKick())
  }
})

test('feature numbers are those of the specification', (t) => {
  t.is(VIRTIO_F_EVENT_IDX, 29)
  t.is(VIRTIO_F_INDIRECT_DESC, 28)
})
