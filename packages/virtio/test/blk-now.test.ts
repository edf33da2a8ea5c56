// Requests that the backend of a block device answers before a kick returns.
import test from 'ava'
import { VIRTIO_CONFIG_S_NEEDS_RESET, createBlk } from 'virtio'
import { FakeDriver, FakeMemory, RamDisk } from 'virtio/testing'
import { turns } from './requests.ts'

const IOERR = 1

test('what the backend takes at once is written before the kick returns', async (t) => {
  const memory = new FakeMemory([
    { gpa: 0, bytes: 1 << 20 },
    { gpa: 1 << 20, bytes: 1 << 20 },
  ])
  const backend = new RamDisk(1 << 20)
  const device = createBlk({ memory, backend })
  const driver = FakeDriver.direct(memory, device)
  let interrupts = 0
  device.connect({ queue: () => void interrupts++, config() {} })
  driver.start()
  backend.now = true
  const ring = driver.queue(0)
  const bytes = Uint8Array.from({ length: 1 << 18 }, (_, i) => i % 251)
  const edge = (1 << 20) - 1024
  memory.write(edge, bytes)
  const submit = (sector: number, length: number, gpa = edge): void => {
    // The header is in front of the data, in the same buffer but for the first bytes of it.
    const headerGpa = 0x1_8000 + 16 * ring.availIdx
    memory.view(headerGpa, 16).setBigUint64(8, BigInt(sector), true)
    memory.view(headerGpa, 16).setUint32(0, 1, true)
    ring.submit([
      { gpa: headerGpa, length: 16 },
      { gpa, length: 100 },
      { gpa: gpa + 100, length: length - 100 },
      { gpa: 0x1_0000, length: 1, writable: true },
    ])
  }
  submit(1, 4096)
  driver.kick(0)
  t.deepEqual(backend.calls, ['write now 512 4096'])
  t.like(ring.takeUsed()[0], { written: 1 })
  t.is(interrupts, 1)
  t.deepEqual(backend.data.subarray(512, 4608), bytes.subarray(0, 4096))
  // After two MiB others have their turn.
  backend.calls.length = 0
  const part = 3 << 18
  for (let i = 0; i < 4; i++) submit(0, part)
  driver.kick(0)
  t.deepEqual(backend.calls, Array<string>(3).fill(`write now 0 ${part}`))
  t.is(ring.takeUsed().length, 3)
  await turns()
  t.is(backend.calls[3], `write now 0 ${part}`)
  t.is(ring.takeUsed().length, 1)
  // What is to be stable when it is answered takes the long way, and what fails does.
  backend.calls.length = 0
  device.configWrite(32, 1, 0)
  submit(0, 512)
  driver.kick(0)
  await turns()
  t.deepEqual(backend.calls, ['write 0 512', 'flush'])
  device.configWrite(32, 1, 1)
  backend.calls.length = 0
  backend.broken = true
  submit(0, 512)
  driver.kick(0)
  await turns()
  t.deepEqual(backend.calls, ['write 0 512'])
  t.is(memory.view(0x1_0000, 1).getUint8(0), 1)
})

test('what the backend has at hand is read before the kick returns', async (t) => {
  const memory = new FakeMemory([
    { gpa: 0, bytes: 1 << 20 },
    { gpa: 1 << 20, bytes: 1 << 22 },
  ])
  const backend = new RamDisk(1 << 22)
  for (let i = 0; i < backend.data.length; i++) backend.data[i] = i >> 9
  const errors: unknown[] = []
  const device = createBlk({ memory, backend, onError: (error) => errors.push(error) })
  const driver = FakeDriver.direct(memory, device)
  let interrupts = 0
  device.connect({ queue: () => void interrupts++, config() {} })
  driver.start()
  backend.now = true
  const ring = driver.queue(0)
  const submit = (sector: number, gpa: number, length: number): void => {
    const headerGpa = 0x1_8000 + 16 * ring.availIdx
    memory.view(headerGpa, 16).setBigUint64(8, BigInt(sector), true)
    ring.submit([
      { gpa: headerGpa, length: 16 },
      { gpa, length: length - 512, writable: true },
      { gpa: gpa + length - 512, length: 513, writable: true },
    ])
  }
  // Over the edge from one piece of memory to the next, and back.
  submit(1, (1 << 20) - 1024, 4096)
  submit(9, (1 << 20) + 8192, 1024)
  driver.kick(0)
  t.deepEqual(backend.calls, ['now 512 4096', 'now 4608 1024'])
  const length = { written: 4097 }
  t.like(ring.takeUsed()[0], length)
  t.is(interrupts, 1)
  t.deepEqual(memory.read((1 << 20) - 1024, 4096), backend.data.slice(512, 4608))
  t.deepEqual(memory.read((1 << 20) + 8192, 1024), backend.data.slice(4608, 5632))
  t.true(memory.written.some(({ gpa }) => gpa === (1 << 20) - 1024))
  await turns()
  t.is(interrupts, 1)
  // After two MiB others have their turn, and a request that is longer than that is not made to wait for.
  backend.calls.length = 0
  const mib = 1 << 20
  ring.setUsedEvent(ring.usedIdx)
  for (const at of [0, 1, 2]) submit(0, mib + at * mib, mib)
  driver.kick(0)
  t.deepEqual(backend.calls.splice(0), [`now 0 ${mib}`, `now 0 ${mib}`])
  t.is(interrupts, 2)
  await turns()
  t.deepEqual(backend.calls.splice(0), [`now 0 ${mib}`])
  t.is(ring.takeUsed().length, 3)
  submit(0, mib, 2 * mib + 512)
  driver.kick(0)
  await turns()
  t.deepEqual(backend.calls.splice(0), [`read 0 ${2 * mib + 512}`])
  t.is(ring.takeUsed().length, 1)
  // What is not at hand is read as ever, also where that fails.
  backend.broken = true
  submit(0, 0x8_0000, 1024)
  driver.kick(0)
  await turns()
  t.is(memory.read(0x8_0000 + 1024, 1)[0], IOERR)
  backend.broken = false
  submit(0, 5 * mib - 512, 1024)
  driver.kick(0)
  t.truthy(device.status & VIRTIO_CONFIG_S_NEEDS_RESET)
  t.is(errors.length, 1)
})

test('the driver hears of large requests before those behind them are carried out', (t) => {
  const memory = new FakeMemory([{ gpa: 0, bytes: 4 << 20 }])
  const backend = new RamDisk(1 << 22)
  const device = createBlk({ memory, backend })
  const driver = FakeDriver.direct(memory, device)
  const log: string[] = backend.calls
  device.connect({ queue: () => void log.push('interrupt'), config() {} })
  driver.start()
  backend.now = true
  Object.assign(backend, { plug: () => log.push('plug'), unplug: () => log.push('unplug') })
  const ring = driver.queue(0)
  const submit = (length: number): void => {
    const headerGpa = 0x1_8000 + 16 * ring.availIdx
    ring.submit([
      { gpa: headerGpa, length: 16 },
      { gpa: 1 << 20, length: length + 1, writable: true },
    ])
  }
  const half = 1 << 17
  for (const length of [half, half, half, 512]) submit(length)
  ring.setUsedEvent(1)
  driver.kick(0)
  t.deepEqual(log.splice(0), [
    'plug',
    `now 0 ${half}`,
    `now 0 ${half}`,
    'interrupt',
    `now 0 ${half}`,
    'now 0 512',
    'unplug',
  ])
  // It did not ask to be told of more. Small ones are told together.
  t.is(ring.takeUsed().length, 4)
  ring.setUsedEvent(ring.usedIdx)
  for (let i = 0; i < 3; i++) submit(512)
  driver.kick(0)
  t.deepEqual(log, ['plug', ...Array<string>(3).fill('now 0 512'), 'interrupt', 'unplug'])
})

test('what was left for another turn waits while the device is paused', async (t) => {
  const memory = new FakeMemory([{ gpa: 0, bytes: 4 << 20 }])
  const backend = new RamDisk(1 << 22)
  const device = createBlk({ memory, backend })
  const driver = FakeDriver.direct(memory, device)
  driver.start()
  backend.now = true
  const ring = driver.queue(0)
  const mib = 1 << 20
  for (let i = 0; i < 5; i++) {
    ring.submit([
      { gpa: 0x1_8000 + 16 * i, length: 16 },
      { gpa: mib, length: mib + 1, writable: true },
    ])
  }
  driver.kick(0)
  device.pause()
  await device.quiesce()
  await turns()
  driver.kick(0)
  t.is(backend.calls.length, 2)
  t.is(ring.takeUsed().length, 2)
  // Its state is whole: another device carries out the rest.
  const other = createBlk({ memory, backend })
  other.load(device.save())
  await turns()
  t.is(backend.calls.length, 2)
  other.resume()
  await turns()
  t.is(backend.calls.length, 5)
  t.is(ring.takeUsed().length, 3)
})
