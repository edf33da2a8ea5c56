import test from 'ava'
import { VIRTIO_CONFIG_S_NEEDS_RESET, VirtioError, createConsole } from 'virtio'
import { FakeDriver, FakeMemory } from 'virtio/testing'

const VERSION_1 = 1n << 32n
const MULTIPORT = 1n << 1n
const SIZE = 1n << 0n
const [DEVICE_READY, DEVICE_ADD, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME] = [
  0, 1, 3, 4, 5, 6, 7,
]

/** A pipe that keeps what it gets. */
class Sink {
  output = ''
  full = false
  rooms = 0
  opens: boolean[] = []
  write(data: Uint8Array): boolean {
    this.output += Buffer.from(data).toString('latin1')
    return !this.full
  }
  onRoom(): void {
    this.rooms++
  }
  onGuestOpen(open: boolean): void {
    this.opens.push(open)
  }
}

function connect(features: bigint = VERSION_1 | MULTIPORT | SIZE): {
  memory: FakeMemory
  pipes: Sink[]
  device: ReturnType<typeof createConsole>
  driver: FakeDriver
  control: (event: number, id: number, value: number) => void
  messages: () => unknown[][]
} {
  const memory = new FakeMemory()
  const pipes = [new Sink(), new Sink()]
  const device = createConsole({
    memory,
    maxPorts: 4,
    later: () => {},
    ports: [
      { id: 0, console: true, pipe: pipes[0]! },
      { id: 2, console: false, name: 'org.test.0', pipe: pipes[1]! },
    ],
  })
  const driver = FakeDriver.direct(memory, device)
  driver.start({ features, queueSize: 16 })
  const control = (event: number, id: number, value: number): void => {
    const view = memory.view(0x1_0000, 8)
    view.setUint32(0, id, true)
    view.setUint16(4, event, true)
    view.setUint16(6, value, true)
    driver.queue(3).submit([{ gpa: 0x1_0000, length: 8 }])
    driver.kick(3)
    driver.queue(3).takeUsed()
  }
  const taken: number[] = []
  const messages = (): unknown[][] => {
    const ring = driver.queue(2)
    const list = ring.takeUsed().map(({ head, written }) => {
      const view = memory.view(0x1_1000 + 0x100 * head, 0x100)
      taken.push(head)
      const [id, event, value] = [
        view.getUint32(0, true),
        view.getUint16(4, true),
        view.getUint16(6, true),
      ]
      const rest = memory.read(0x1_1008 + 0x100 * head, written - 8)
      if (event === RESIZE) return [event, id, view.getUint16(8, true), view.getUint16(10, true)]
      return rest.length > 0 ? [event, id, Buffer.from(rest).toString()] : [event, id, value]
    })
    giveControlBuffers(driver, list.length)
    return list
  }
  return { memory, pipes, device, driver, control, messages }
}

/** The ring hands out its descriptors in a fixed order, so each buffer has its own place. */
function giveControlBuffers(driver: FakeDriver, count: number): void {
  const ring = driver.queue(2)
  for (let i = 0; i < count; i++) {
    const head = ring.submit([{ gpa: 0, length: 0x100, writable: true }])
    driver.memory
      .view(ring.layout.descGpa + 16 * head, 8)
      .setUint32(0, 0x1_1000 + 0x100 * head, true)
  }
  driver.kick(2)
}

function send(driver: FakeDriver, queue: number, text: string): void {
  driver.memory.write(0x2_0000, Buffer.from(text))
  driver.queue(queue).submit([{ gpa: 0x2_0000, length: text.length }])
  driver.kick(queue)
}

test('ports are added, named and opened as the driver asks', (t) => {
  const { driver, control, messages, pipes, device } = connect()
  giveControlBuffers(driver, 8)
  control(DEVICE_READY, 0, 1)
  t.deepEqual(messages(), [
    [DEVICE_ADD, 0, 1],
    [DEVICE_ADD, 2, 1],
  ])
  device.model.resize(0, 132, 43)
  t.deepEqual(messages(), [[RESIZE, 0, 132, 43]])
  control(PORT_READY, 0, 1)
  control(PORT_READY, 2, 1)
  t.deepEqual(messages(), [
    [CONSOLE_PORT, 0, 1],
    [PORT_OPEN, 0, 1],
    [RESIZE, 0, 132, 43],
    [PORT_NAME, 2, 'org.test.0'],
    [PORT_OPEN, 2, 1],
  ])
  control(PORT_OPEN, 2, 1)
  control(PORT_OPEN, 2, 1)
  control(PORT_OPEN, 2, 0)
  t.deepEqual(pipes[1]!.opens, [true, false])
  device.model.port(2).setOpen(false)
  t.deepEqual(messages(), [[PORT_OPEN, 2, 0]])
  t.is(device.configRead(0, 2), 132)
  t.is(device.configRead(2, 2), 43)
  t.is(device.configRead(4, 4), 4)
})

test('control messages wait for buffers, and nonsense is ignored', (t) => {
  const { driver, control, messages } = connect()
  for (let i = 0; i < 100; i++) control(DEVICE_READY, 0, 1)
  control(PORT_READY, 77, 1)
  control(0xffff, 0, 1)
  control(PORT_OPEN, 0xffff_ffff, 1)
  driver.queue(3).submit([{ gpa: 0x1_0000, length: 3 }])
  driver.kick(3)
  giveControlBuffers(driver, 1)
  t.deepEqual(messages(), [[DEVICE_ADD, 0, 1]])
  t.deepEqual(messages(), [[DEVICE_ADD, 2, 1]])
  t.deepEqual(messages(), [])
})

test('output goes to the pipe of its port and stops when that is full', (t) => {
  const { driver, pipes, device } = connect()
  send(driver, 1, 'hello ')
  send(driver, 7, 'port 2')
  t.is(pipes[0]!.output, 'hello ')
  t.is(pipes[1]!.output, 'port 2')
  pipes[0]!.full = true
  driver.queue(1).takeUsed()
  send(driver, 1, 'last')
  t.is(driver.queue(1).takeUsed().length, 1, 'what the pipe took is used')
  send(driver, 1, 'later')
  t.is(driver.queue(1).takeUsed().length, 0)
  t.is(pipes[0]!.output, 'hello last')
  pipes[0]!.full = false
  device.model.port(0).resume()
  t.is(pipes[0]!.output, 'hello lastlater')
})

test('a long chain is handed over in pieces, and a saved device goes on in the middle', (t) => {
  const { memory, driver, pipes, device } = connect()
  const size = 100_000
  memory.write(
    0x4_0000,
    Uint8Array.from({ length: size }, (_, i) => 33 + (i % 90)),
  )
  const whole = Buffer.from(memory.read(0x4_0000, size)).toString('latin1')
  pipes[0]!.full = true
  driver.queue(1).submit([{ gpa: 0x4_0000, length: size }])
  driver.kick(1)
  t.is(pipes[0]!.output.length, 32 << 10)
  t.is(device.inFlight, 0, 'nothing that could hold up a reset')
  const state = structuredClone(device.save())
  const sink = new Sink()
  const again = createConsole({
    memory,
    maxPorts: 4,
    ports: [
      { id: 0, console: true, pipe: sink },
      { id: 2, console: false, name: 'org.test.0', pipe: new Sink() },
    ],
  })
  again.load(state)
  t.deepEqual(again.save(), state)
  again.resume()
  t.is(pipes[0]!.output + sink.output, whole)
  t.is(driver.queue(1).takeUsed().length, 1)
})

test('input fills the buffers that there are, and asks again when there are more', (t) => {
  const { memory, driver, device, pipes, control } = connect()
  const port = device.model.port(0)
  const text = Buffer.from('some input')
  t.is(port.receive(text), 0, 'nobody has the port open')
  control(PORT_OPEN, 0, 1)
  t.is(pipes[0]!.rooms, 1)
  t.is(port.receive(text), 0, 'there is no buffer')
  driver.queue(0).submit([{ gpa: 0x3_0000, length: 4, writable: true }])
  driver.kick(0)
  t.is(pipes[0]!.rooms, 2)
  t.is(port.receive(text), 4)
  driver.queue(0).submit([{ gpa: 0x3_0100, length: 100, writable: true }])
  driver.kick(0)
  t.is(port.receive(text.subarray(4)), 6)
  t.deepEqual(
    driver
      .queue(0)
      .takeUsed()
      .map(({ written }) => written),
    [4, 6],
  )
  t.is(Buffer.from(memory.read(0x3_0100, 6)).toString(), ' input')
})

test('a driver without MULTIPORT has one console without control queues', (t) => {
  const { driver, device, pipes } = connect(VERSION_1)
  driver.queue(0).submit([{ gpa: 0x3_0000, length: 16, writable: true }])
  driver.kick(0)
  t.is(device.model.port(0).receive(Buffer.from('key')), 3)
  send(driver, 1, 'echo')
  t.is(pipes[0]!.output, 'echo')
})

test('an emergency write works before anything is negotiated', (t) => {
  const pipe = new Sink()
  const device = createConsole({
    memory: new FakeMemory(),
    ports: [{ id: 0, console: true, pipe }],
  })
  device.configWrite(8, 4, 0x4f)
  device.configWrite(8, 1, 0x4f)
  t.is(pipe.output, 'O')
})

test('an input buffer without room or outside RAM needs a reset', (t) => {
  for (const buffer of [
    { gpa: 0x3_0000, length: 4 },
    { gpa: 0x3000_0000, length: 4, writable: true },
  ]) {
    const { driver, device } = connect(VERSION_1)
    driver.queue(0).submit([buffer])
    t.is(device.model.port(0).receive(Uint8Array.of(1)), 0)
    t.truthy(device.status & VIRTIO_CONFIG_S_NEEDS_RESET)
    t.is(device.inFlight, 0)
    device.reset()
    t.is(device.status, 0)
  }
})

test('ports that cannot be are refused', (t) => {
  const memory = new FakeMemory()
  const port = { id: 0, console: true, pipe: new Sink() }
  const bad = [
    { ports: [port, port] },
    { ports: [{ ...port, id: 31 }] },
    { ports: [{ ...port, name: 'a b' }] },
    { ports: [], maxPorts: 0 },
    { ports: [], maxPorts: 512 },
  ]
  for (const options of bad) {
    t.throws(() => createConsole({ memory, ...options }), {
      instanceOf: VirtioError,
      code: 'E_CONFIG',
    })
  }
  t.throws(() => createConsole({ memory, ports: [] }).model.port(3), { code: 'E_CONFIG' })
})
