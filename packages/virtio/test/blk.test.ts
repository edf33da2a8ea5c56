import test from 'ava'
import * as fc from 'fast-check'
import { VIRTIO_CONFIG_S_NEEDS_RESET, VirtioError, createBlk } from 'virtio'
import { FakeDriver, FakeMemory, RamDisk } from 'virtio/testing'
import { DATA_GPA, blkRequest, turns } from './requests.ts'

const IN = 0
const OUT = 1
const FLUSH = 4
const GET_ID = 8
const DISCARD = 11
const WRITE_ZEROES = 13
const OK = 0
const IOERR = 1
const UNSUPP = 2

const VERSION_1 = 1n << 32n

function connect(
  disk: ConstructorParameters<typeof RamDisk>[1] = {},
  options: { features?: bigint; queues?: number; sizeBytes?: number } = {},
): {
  memory: FakeMemory
  backend: RamDisk
  driver: FakeDriver
  device: ReturnType<typeof createBlk>
} {
  const memory = new FakeMemory()
  const backend = new RamDisk(options.sizeBytes ?? 1 << 20, disk)
  const device = createBlk({ memory, backend, serial: 'disk-7', queues: options.queues ?? 1 })
  const driver = FakeDriver.direct(memory, device)
  driver.start(options.features === undefined ? {} : { features: options.features })
  return { memory, backend, driver, device }
}

/** The table of a discard or write-zeroes request. */
function segments(...list: [sector: number, sectors: number, flags: number][]): Uint8Array {
  const view = new DataView(new ArrayBuffer(16 * list.length))
  for (const [i, [sector, sectors, flags]] of list.entries()) {
    view.setBigUint64(16 * i, BigInt(sector), true)
    view.setUint32(16 * i + 8, sectors, true)
    view.setUint32(16 * i + 12, flags, true)
  }
  return new Uint8Array(view.buffer)
}

test('what is written is read again, and both are reported to the dirty log', async (t) => {
  const { driver, memory, backend } = connect()
  const data = Uint8Array.from({ length: 1536 }, (_, i) => i * 7)
  t.is(await blkRequest(driver, { type: OUT, sector: 5, data }), OK)
  t.deepEqual(backend.data.slice(5 * 512, 5 * 512 + 1536), data)
  memory.write(DATA_GPA, new Uint8Array(1536))
  memory.written.length = 0
  t.is(await blkRequest(driver, { type: IN, sector: 5, length: 1536 }), OK)
  t.deepEqual(memory.read(DATA_GPA, 1536), data)
  t.true(memory.written.some(({ gpa, length }) => gpa === DATA_GPA && length === 1536))
})

test('configuration space', (t) => {
  const { driver } = connect({ logicalBlockBytes: 1024 }, { queues: 3 })
  const read = (offset: number, size: number): number => driver.access.configRead(offset, size)
  t.is(read(0, 4), 2048)
  t.is(read(4, 4), 0)
  t.is(read(12, 4), 254)
  t.is(read(20, 4), 1024)
  t.is(read(24, 1), 2, 'physical blocks are 4096 bytes')
  t.is(read(32, 1), 1)
  t.is(read(34, 2), 3)
  t.is(read(36, 4), 0x3f_ffff)
  t.is(read(44, 4), 2)
  t.is(read(58, 4), 0)
  t.is(read(0x1000, 4), 0)
})

test('the serial number is padded with zeros and cut to the buffer', async (t) => {
  const { driver, memory } = connect()
  t.is(await blkRequest(driver, { type: GET_ID, sector: 0, length: 20 }), OK)
  t.is(Buffer.from(memory.read(DATA_GPA, 20)).toString(), 'disk-7'.padEnd(20, '\0'))
  memory.write(DATA_GPA, new Uint8Array(20).fill(1))
  t.is(await blkRequest(driver, { type: GET_ID, sector: 0, length: 4 }), OK)
  t.is(Buffer.from(memory.read(DATA_GPA, 6)).toString(), 'disk\x01\x01')
})

test('requests outside the disk or of broken blocks are refused before the backend', async (t) => {
  const { driver, backend } = connect({ logicalBlockBytes: 4096 })
  const sectors = 2048
  const bad: [number, number][] = [
    [sectors, 4096],
    [sectors - 4, 4096],
    [2 ** 53, 4096],
    [0, 512],
    [0, 4095],
    [1, 4096],
  ]
  for (const [sector, length] of bad) {
    t.is(await blkRequest(driver, { type: IN, sector, length }), IOERR)
    t.is(await blkRequest(driver, { type: OUT, sector, data: new Uint8Array(length) }), IOERR)
  }
  t.is(await blkRequest(driver, { type: 0x7777, sector: 0 }), UNSUPP)
  t.is(await blkRequest(driver, { type: 2, sector: 0 }), UNSUPP)
  t.is(await blkRequest(driver, { type: IN, sector: 0 }), OK, 'nothing is read well')
  t.deepEqual(
    backend.refusals,
    bad.flatMap(() => ['read', 'write']),
  )
  t.deepEqual(backend.calls, [])
  t.is(await blkRequest(driver, { type: IN, sector: sectors - 8, length: 4096 }), OK)
})

test('discard and write zeroes', async (t) => {
  const { driver, backend } = connect()
  backend.data.fill(1)
  const run = (type: number, data: Uint8Array): Promise<number> =>
    blkRequest(driver, { type, sector: 0, data })
  t.is(await run(WRITE_ZEROES, segments([0, 2, 0], [8, 1, 1])), OK)
  t.deepEqual(backend.calls, ['zero 0 1024 false', 'zero 4096 512 true'])
  t.is(await run(DISCARD, segments([2, 2, 0])), OK)
  t.is(backend.data[1024], 0xdd)
  t.is(await run(DISCARD, segments([2, 0, 0])), OK)
  backend.calls.length = 0
  t.is(await run(DISCARD, segments([2, 2, 1])), UNSUPP)
  t.is(await run(WRITE_ZEROES, segments([2, 2, 2])), UNSUPP)
  t.is(await run(WRITE_ZEROES, segments([0, 1, 0], [2048, 1, 0])), IOERR, 'all or nothing')
  t.is(await run(DISCARD, segments([0, 0xffff_ffff, 0])), IOERR)
  t.is(await run(DISCARD, new Uint8Array(0)), IOERR)
  t.is(await run(DISCARD, new Uint8Array(17)), IOERR)
  t.is(backend.refusals.filter((kind) => kind === 'unmap').length, 4)
  t.is(backend.refusals.filter((kind) => kind === 'write').length, 2)
  t.is(await run(DISCARD, new Uint8Array(16 * 17)), IOERR)
  t.deepEqual(backend.calls, [])
})

test('a read-only disk is not written', async (t) => {
  const { driver, backend } = connect({ readOnly: true })
  t.truthy(driver.features & (1n << 5n))
  t.falsy(driver.features & (1n << 13n))
  t.is(await blkRequest(driver, { type: OUT, sector: 0, data: new Uint8Array(512) }), IOERR)
  t.is(await blkRequest(driver, { type: DISCARD, sector: 0, data: segments([0, 1, 0]) }), UNSUPP)
  t.is(
    await blkRequest(driver, { type: WRITE_ZEROES, sector: 0, data: segments([0, 1, 0]) }),
    UNSUPP,
  )
  t.deepEqual(backend.calls, [])
})

test('without a write cache a write is flushed before it is answered', async (t) => {
  const data = new Uint8Array(512)
  const cached = connect()
  t.is(await blkRequest(cached.driver, { type: OUT, sector: 0, data }), OK)
  t.deepEqual(cached.backend.calls, ['write 0 512'])
  t.is(await blkRequest(cached.driver, { type: FLUSH, sector: 0 }), OK)
  cached.device.configWrite(32, 1, 0)
  t.is(await blkRequest(cached.driver, { type: OUT, sector: 0, data }), OK)
  t.deepEqual(cached.backend.calls.slice(1), ['flush', 'write 0 512', 'flush'])
  const bare = connect({}, { features: VERSION_1 })
  t.is(await blkRequest(bare.driver, { type: OUT, sector: 0, data }), OK)
  t.deepEqual(bare.backend.calls, ['write 0 512', 'flush'])
  bare.device.configWrite(32, 1, 0)
  t.is(bare.device.configRead(32, 1), 1, 'only with CONFIG_WCE')
})

test('an error of the backend is an error of the request alone', async (t) => {
  const { driver, backend, device } = connect()
  backend.broken = true
  t.is(await blkRequest(driver, { type: IN, sector: 0, length: 512 }), IOERR)
  t.is(await blkRequest(driver, { type: FLUSH, sector: 0 }), IOERR)
  backend.broken = false
  backend.flush = () => {
    throw new Error('not even a promise')
  }
  t.is(await blkRequest(driver, { type: FLUSH, sector: 0 }), IOERR)
  t.is(await blkRequest(driver, { type: IN, sector: 0, length: 512 }), OK)
  t.true(device.running)
})

test('several requests are in flight and end in any order with one interrupt', async (t) => {
  const { driver, backend, device } = connect()
  let interrupts = 0
  device.connect({ queue: () => void interrupts++, config() {} })
  backend.hold = true
  for (const sector of [1, 2, 3]) blkRequest(driver, { type: IN, sector, length: 512 })
  const ring = driver.queue(0)
  await turns()
  t.is(device.inFlight, 3)
  let settled = false
  const quiet = device.quiesce().then(() => (settled = true))
  await turns()
  t.false(settled)
  backend.release()
  await quiet
  await turns()
  t.is(device.inFlight, 0)
  t.is(interrupts, 1)
  t.is(ring.usedIdx, 3)
})

test('requests that end in callbacks of one turn share an interrupt', async (t) => {
  const { driver, backend, device } = connect()
  let interrupts = 0
  device.connect({ queue: () => void interrupts++, config() {} })
  backend.hold = true
  const ends: (() => void)[] = []
  for (const sector of [1, 2, 3]) {
    backend.readv = () => new Promise((resolve) => void ends.push(resolve))
    blkRequest(driver, { type: IN, sector, length: 512 })
  }
  // Between these, as between all callbacks of the event loop, microtasks run.
  for (const end of ends) setImmediate(end)
  await turns()
  await turns()
  t.is(device.inFlight, 0)
  t.is(interrupts, 1)
})

test('a request without header, status or memory needs a reset', async (t) => {
  const chains = [
    [
      { gpa: 0x8000, length: 15 },
      { gpa: 0x9000, length: 1, writable: true },
    ],
    [{ gpa: 0x8000, length: 16 }],
    [
      { gpa: 0xff_0000, length: 16 },
      { gpa: 0x9000, length: 1, writable: true },
    ],
    [
      { gpa: 0x8000, length: 16 },
      { gpa: 0xff_0000, length: 513, writable: true },
    ],
  ]
  for (const chain of chains) {
    const { driver, device } = connect()
    driver.queue(0).submit(chain)
    driver.kick(0)
    t.truthy(device.status & VIRTIO_CONFIG_S_NEEDS_RESET)
    t.is(device.inFlight, 0)
    driver.start()
    t.is(await blkRequest(driver, { type: IN, sector: 0, length: 512 }), OK)
  }
})

test('framing does not matter: any cut of header, data and status is the same', async (t) => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 600 }), { maxLength: 6 }),
      fc.array(fc.integer({ min: 1, max: 600 }), { maxLength: 6 }),
      async (readCuts, writeCuts) => {
        const { driver, memory, backend } = connect()
        backend.data.fill(0x33)
        memory.view(0x1_8000, 16).setBigUint64(8, 1n, true)
        const cut = (gpa: number, length: number, cuts: readonly number[], writable: boolean) => {
          const parts: { gpa: number; length: number; writable: boolean }[] = []
          let at = 0
          for (const size of [...cuts, length]) {
            const part = Math.min(size, length - at)
            if (part > 0) parts.push({ gpa: gpa + at, length: part, writable })
            at += part
          }
          return parts
        }
        driver
          .queue(0)
          .submit([...cut(0x1_8000, 16, readCuts, false), ...cut(DATA_GPA, 1025, writeCuts, true)])
        driver.kick(0)
        await turns()
        const used = driver.queue(0).takeUsed()
        const result = memory.read(DATA_GPA, 1026)
        return (
          used.length === 1 &&
          used[0]!.written === 1025 &&
          result.subarray(0, 1024).every((byte) => byte === 0x33) &&
          result[1024] === OK &&
          result[1025] === 0
        )
      },
    ),
    { numRuns: 200 },
  )
  t.pass()
})

test('options that cannot be are refused', (t) => {
  const memory = new FakeMemory()
  const make = (options: object, sizeBytes = 1024): unknown =>
    createBlk({ memory, backend: new RamDisk(sizeBytes, options), ...options })
  const bad: [object, number?][] = [
    [{ queues: 0 }],
    [{ queues: 65 }],
    [{ queueSize: 2 }],
    [{ queueSize: 100 }],
    [{ queueSize: 2048 }],
    [{ serial: 'x'.repeat(21) }],
    [{ serial: 'ü' }],
    [{ logicalBlockBytes: 511 }],
    [{ logicalBlockBytes: 256 }],
    [{}, 1000],
  ]
  for (const [options, size] of bad) {
    t.throws(() => make(options, size), { instanceOf: VirtioError, code: 'E_CONFIG' })
  }
})

test('a new size is told by a configuration interrupt', (t) => {
  const { device, backend } = connect()
  let configs = 0
  device.connect({ queue() {}, config: () => void configs++ })
  const generation = device.configGeneration
  Object.defineProperty(backend, 'sizeBytes', { value: 4096 })
  device.model.resized()
  t.is(device.configRead(0, 4), 8)
  t.is(configs, 1)
  t.not(device.configGeneration, generation)
})
