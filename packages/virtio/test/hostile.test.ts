import test from 'ava'
import {
  VIRTIO_CONFIG_S_DRIVER_OK,
  VIRTIO_CONFIG_S_NEEDS_RESET,
  type VirtioDevice,
  Link,
  VirtioError,
  VirtioMmioTransport,
  VirtioPciTransport,
  createBlk,
  createConsole,
  createNet,
  createRng,
} from 'virtio'
import {
  FakeDriver,
  FakeMemory,
  NetEnd,
  Random,
  RamDisk,
  type Registers,
  batchOf,
  hostileQueue,
  mmioAccess,
  pciAccess,
} from 'virtio/testing'
import { turns } from './requests.ts'

const LONG = process.env['LONG'] === '1'
const ACCESSES = LONG ? 5_000_000 : 100_000
const ROUNDS = LONG ? 50_000 : 1500
const RAM = 1 << 18

const entropy = { fill: (target: Uint8Array): void => void target.fill(0x5a) }

interface Subject {
  device: VirtioDevice
  memory: FakeMemory
  backend: RamDisk | undefined
  errors: unknown[]
  later: (() => void)[]
  /** What the host does meanwhile. */
  host: (random: Random) => void
}

function createMemory(): FakeMemory {
  // A hole in the middle, and ROM after it.
  const memory = new FakeMemory([
    { gpa: 0, bytes: RAM },
    { gpa: RAM + 0x1_0000, bytes: 0x1_0000 },
    { gpa: RAM + 0x2_0000, bytes: 0x1000, readOnly: true },
  ])
  memory.record = false
  return memory
}

const subjects: Record<string, () => Subject> = {
  blk: () => {
    const parts = base()
    const backend = new RamDisk(1 << 16)
    const device = createBlk({ ...parts.options, backend, queues: 2, queueSize: 16 })
    return {
      ...parts,
      device,
      backend,
      host: (random) => {
        backend.hold = random.below(2) === 0
        backend.broken = random.below(4) === 0
        backend.now = random.below(2) === 0
        if (random.below(4) === 0) backend.release()
      },
    }
  },
  console: () => {
    const parts = base()
    let full = false
    const pipe = { write: () => !full }
    const device = createConsole({
      ...parts.options,
      maxPorts: 3,
      ports: [
        { id: 0, console: true, pipe },
        { id: 2, console: false, name: 'x', pipe },
      ],
    })
    return {
      ...parts,
      device,
      backend: undefined,
      host: (random) => {
        full = random.below(4) === 0
        const port = device.model.port(random.pick([0, 2]))
        port.receive(new Uint8Array(random.below(100)))
        port.resume()
        port.setOpen(random.below(2) === 0)
        device.model.resize(0, random.below(200), random.below(100))
      },
    }
  },
  net: () => {
    const parts = base()
    const end = new NetEnd(0x1f)
    const link = new Link()
    link.a.attach(end)
    const device = createNet({
      ...parts.options,
      side: link.b,
      mac: Uint8Array.of(0x52, 0x54, 0, 0, 0, 1),
      queuePairs: 2,
      rxQueueSize: 64,
      txQueueSize: 64,
    })
    return {
      ...parts,
      device,
      backend: undefined,
      host: (random) => {
        end.got.length = 0
        end.offered.length = 0
        end.told.length = 0
        end.room = random.pick([0, 1, Infinity])
        link.a.send(batchOf(new Uint8Array(14 + random.below(3000)), new Uint8Array(60)))
        link.a.ready()
        if (random.below(8) === 0) link.setUp(!link.up)
        if (random.below(8) === 0) device.model.announce()
        device.model.pause(random.below(4) === 0)
      },
    }
  },
  rng: () => {
    const parts = base()
    return {
      ...parts,
      device: createRng({ ...parts.options, entropy }),
      backend: undefined,
      host() {},
    }
  },
}

function base(): {
  memory: FakeMemory
  errors: unknown[]
  later: (() => void)[]
  options: {
    memory: FakeMemory
    onError: (error: unknown) => void
    later: (work: () => void) => void
  }
} {
  const memory = createMemory()
  const errors: unknown[] = []
  const later: (() => void)[] = []
  const options = {
    memory,
    onError: (error: unknown) => void errors.push(error),
    later: (work: () => void) => void later.push(work),
  }
  return { memory, errors, later, options }
}

/** A device that must have behaved: only guests' mistakes, and nothing that can never end. */
async function judge(subject: Subject): Promise<string | undefined> {
  const { device, backend, errors, later } = subject
  const other = errors.find((error) => !(error instanceof VirtioError))
  if (other !== undefined) return `threw ${(other as Error).stack ?? String(other)}`
  if (backend !== undefined) backend.hold = false
  device.reset()
  for (let i = 0; i < 10 && device.inFlight > 0; i++) {
    backend?.release()
    await turns()
  }
  later.length = 0
  if (device.inFlight !== 0) return `${device.inFlight} chains never came back`
  if (device.status !== 0) return `status is ${device.status} after a reset`
  return undefined
}

const transports: Record<string, (device: VirtioDevice) => Registers> = {
  pci: (device) => {
    const msix = { enabled: true, vectors: 3, trigger: check }
    function check(vector: number): void {
      if (!(vector >= 0 && vector < 3)) throw new RangeError(`vector ${vector}`)
    }
    return new VirtioPciTransport(device, { msix, intx: { set: () => {} } })
  },
  mmio: (device) => new VirtioMmioTransport(device, { set: () => {} }),
}

for (const [kind, create] of Object.entries(subjects)) {
  test(`no ring makes virtio-${kind} throw, hang or write past a reset`, async (t) => {
    t.timeout(LONG ? 1_800_000 : 120_000)
    const random = new Random(0x5eed)
    const subject = create()
    const { device, memory, errors, later } = subject
    let failures = 0
    for (let round = 0; round < ROUNDS; round++) {
      const driver = FakeDriver.direct(memory, device)
      const features = device.offeredFeatures & ~(BigInt(random.below(4)) << 28n)
      driver.start({ features, queueSize: random.pick([1, 2, 8, 16]) })
      const queues = [...driver.queues.entries()]
      for (let i = random.below(12) + 1; i > 0; i--) {
        const [index, queue] = random.pick(queues)
        hostileQueue(random, memory, queue, RAM)
        device.notify(index)
        subject.host(random)
        if (random.below(4) === 0) await turns(4)
        if (random.below(16) === 0) memory.generation++
        for (const work of later.splice(0)) work()
      }
      failures += errors.length
      const wrong = await judge(subject)
      if (wrong !== undefined) return t.fail(`round ${round}: ${wrong}`)
      errors.length = 0
    }
    t.true(failures > ROUNDS / 10, 'many rings were broken')
  })

  for (const [transport, connect] of Object.entries(transports)) {
    test(`no access to the registers of virtio-${kind} on ${transport} makes it throw`, async (t) => {
      t.timeout(LONG ? 1_800_000 : 120_000)
      const random = new Random(0xfeed)
      const subject = create()
      const bar = connect(subject.device)
      const edges = transport === 'pci' ? [0, 0x1000, 0x2000, 0x3000] : [0, 0, 0x100]
      for (let i = 0; i < ACCESSES; i++) {
        const size = 1 << random.below(3)
        const offset = random.below(16)
          ? random.pick(edges) + random.below(random.pick([0x40, 0xc4]))
          : random.below(transport === 'pci' ? 0x4000 : 0x200)
        if (random.below(2) === 0) {
          const value = bar.read(offset, size)
          if (!(Number.isInteger(value) && value >= 0 && value < 2 ** (8 * size))) {
            return t.fail(`read of ${size} at ${offset} gave ${value}`)
          }
        } else {
          // Small numbers are valid for most registers.
          const value = random.pick([random.word(), random.below(16), random.below(RAM), 1, 0])
          bar.write(offset, size, value % 2 ** (8 * size))
        }
        if (random.below(512) === 0) subject.host(random)
        if (random.below(2048) === 0) {
          // From time to time everything is well, so that the devices get to run.
          const access = transport === 'pci' ? pciAccess(bar) : mmioAccess(bar)
          const driver = new FakeDriver(subject.memory, access)
          for (let tries = 0; tries < 5 && subject.device.inFlight > 0; tries++) {
            subject.device.reset()
            subject.backend?.release()
            await turns()
          }
          driver.start({ queueSize: 16 })
          if (!subject.device.running) return t.fail('a good driver was refused')
          for (const work of subject.later.splice(0)) work()
        }
      }
      t.is(await judge(subject), undefined)
    })
  }
}

test('a saved device is the same after any traffic', async (t) => {
  const random = new Random(0xabcd)
  for (const create of Object.values(subjects)) {
    for (let round = 0; round < ROUNDS / 10; round++) {
      const subject = create()
      const { device, memory } = subject
      const driver = FakeDriver.direct(memory, device)
      driver.start({ queueSize: 16 })
      for (let i = random.below(6); i > 0; i--) {
        const [index, queue] = random.pick([...driver.queues.entries()])
        hostileQueue(random, memory, queue, RAM)
        device.notify(index)
        subject.host(random)
      }
      const state = structuredClone(device.save())
      const copy = create()
      for (const piece of [0, RAM + 0x1_0000]) {
        copy.memory.write(piece, memory.read(piece, piece === 0 ? RAM : 0x1_0000))
      }
      // Whether a console's far end is open is no state of the device.
      copy.device.load(state)
      const again = copy.device.save()
      if (device.model.name === 'virtio-console') {
        t.deepEqual(again.queues, state.queues)
        t.is(again.status, state.status)
      } else {
        t.deepEqual(again, state)
      }
      if ((state.status & VIRTIO_CONFIG_S_DRIVER_OK) === 0) t.fail('the driver did not come up')
      if ((state.status & VIRTIO_CONFIG_S_NEEDS_RESET) === 0) t.true(copy.device.running)
    }
  }
})
