// Pseudo-terminals as character devices: who has the other end open, what is lost, and what waits.
import { closeSync, constants, openSync, readSync, readdirSync, writeSync } from 'node:fs'
import test from 'ava'

import { PtyChardev } from '../src/chardev/pty.ts'
import { openChardevs } from '../src/cli/char-open.ts'
import { planChardevs } from '../src/cli/char-plan.ts'
import { parseCommand } from '../src/cli/parse.ts'
import { PTY_HUNG_UP, PTY_WRITABLE, openPty } from '../src/native/pty.ts'
import { bytes, text } from './fixtures/fake-device.ts'

const FAST = { pollMs: 5, stallMs: 60 }

/** Whoever opens the terminal by its name, and reads when it is told to. */
class Reader {
  readonly #fd: number
  #timer: NodeJS.Timeout | undefined
  received = ''
  ended = false

  constructor(path: string) {
    this.#fd = openSync(path, constants.O_RDWR | constants.O_NOCTTY | constants.O_NONBLOCK)
  }

  listen(): this {
    this.#timer = setInterval(() => this.#read(), 5)
    return this
  }

  type(typed: string): void {
    writeSync(this.#fd, bytes(typed))
  }

  close(): void {
    clearInterval(this.#timer)
    closeSync(this.#fd)
  }

  #read(): void {
    const buffer = new Uint8Array(65_536)
    try {
      const count = readSync(this.#fd, buffer)
      this.received += text(buffer.subarray(0, count))
      if (count === 0) this.ended = true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') this.ended = true
    }
  }
}

async function until(is: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 500; i++) {
    if (is()) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`waited in vain: ${what}`)
}

interface Used {
  device: PtyChardev
  got: { data: string; opens: number; hangups: number; reports: string[]; writable: number }
  room: { bytes: number }
}

function used(): Used {
  const got = { data: '', opens: 0, hangups: 0, reports: new Array<string>(), writable: 0 }
  const room = { bytes: 1 << 20 }
  const report = (message: string): void => void got.reports.push(message)
  const device = new PtyChardev(openPty(), { ...FAST, report })
  device.canRead = () => room.bytes
  device.onData = (data) => {
    room.bytes -= data.length
    got.data += text(data)
  }
  device.onOpen = () => got.opens++
  device.onHangup = () => got.hangups++
  device.onWritable = () => got.writable++
  return { device, got, room }
}

test('bytes pass as they are, both ways, and readers come and go', async (t) => {
  const { device, got } = used()
  t.teardown(() => device.close())
  t.is(device.filename, `pty:${device.path}`)
  t.false(device.connected)
  t.true(device.write(bytes('nobody hears this')))
  for (const round of [1, 2]) {
    const reader = new Reader(device.path).listen()
    await until(() => got.opens === round, 'an open')
    t.true(device.connected)
    t.true(device.write(bytes('\r\n\x00\x03\xff login: ')))
    await until(() => reader.received.endsWith('login: '), 'output')
    t.is(reader.received, '\r\n\x00\x03\xff login: ', 'nothing from before, nothing changed')
    got.data = ''
    reader.type('root\r\x03\x04')
    await until(() => got.data.length >= 7, 'input')
    t.is(got.data, 'root\r\x03\x04')
    reader.close()
    await until(() => got.hangups === round, 'a hang-up')
    t.true(device.write(bytes('lost')))
  }
})

test('the other end is seen at a write before it is looked for', (t) => {
  const device = new PtyChardev(openPty(), { report() {}, pollMs: 1 << 30 })
  const reader = new Reader(device.path)
  t.teardown(() => (reader.close(), device.close()))
  t.false(device.connected)
  device.write(bytes('x'))
  t.true(device.connected)
})

test('input waits until its user has room', async (t) => {
  const { device, got, room } = used()
  const reader = new Reader(device.path)
  t.teardown(() => (reader.close(), device.close()))
  await until(() => got.opens === 1, 'an open')
  room.bytes = 3
  reader.type('abcdefgh')
  await until(() => got.data !== '', 'input')
  t.is(got.data, 'abc')
  room.bytes = 100
  device.notifyReadable()
  t.is(got.data, 'abcdefgh')
  reader.type('!')
  await until(() => got.data.endsWith('!'), 'more input')
  t.pass()
})

test('a reader that does not read holds output up, and then loses it', async (t) => {
  const { device, got } = used()
  const reader = new Reader(device.path)
  t.teardown(() => (reader.close(), device.close()))
  await until(() => got.opens === 1, 'an open')
  let sent = 0
  // The kernel moves what it has taken out of the way for a while.
  await until(() => {
    while (sent < 1 << 20 && got.reports.length === 0) {
      if (!device.write(new Uint8Array(1000).fill(0x61))) break
      sent += 1000
    }
    return got.reports.length > 0
  }, 'a report')
  t.true(sent < 1 << 20, 'it is full at some time')
  t.regex(got.reports.join(), /nobody reads from the terminal '\/dev\/pts\/\d+'/)
  t.true(device.write(bytes('dropped')))
  reader.listen()
  await until(() => reader.received.length === sent, 'what was taken')
  t.true(device.write(bytes('end')))
  await until(() => reader.received.endsWith('end'), 'the end')
  t.is(reader.received, `${'a'.repeat(sent)}end`)
})

test('a closed one does nothing, and its reader is told', async (t) => {
  const { device, got } = used()
  const reader = new Reader(device.path).listen()
  t.teardown(() => reader.close())
  await until(() => got.opens === 1, 'an open')
  device.close()
  device.close()
  t.true(device.write(bytes('x')))
  device.notifyReadable()
  await until(() => reader.ended, 'the end of the terminal')
  t.is(got.data, '')
})

test('the native side refuses what is closed, and says who is there', (t) => {
  const pty = openPty()
  t.is(pty.poll(), PTY_HUNG_UP | PTY_WRITABLE)
  t.is(pty.read(new Uint8Array(8)), -5, 'EIO: nobody has the other end')
  pty.close()
  t.is(pty.poll(), PTY_HUNG_UP)
  t.is(pty.read(new Uint8Array(8)), -9)
  t.is(pty.write(bytes('x')), -9)
  t.throws(() => pty.watch(() => {}), { code: 'EBADF' })
  pty.unwatch()
})

test.serial('many come and go without a descriptor left behind', async (t) => {
  const count = (): number => readdirSync('/proc/self/fd').length
  const before = count()
  for (let i = 0; i < 200; i++) {
    const pty = openPty()
    pty.watch(() => pty.unwatch())
    pty.close()
  }
  await new Promise((resolve) => setTimeout(resolve, 20))
  t.is(count(), before)
})

test('the command line names the terminal as QEMU does', async (t) => {
  const said: string[] = []
  const command = parseCommand([
    '-kernel',
    'k',
    '-display',
    'none',
    '-serial',
    'pty',
    '-monitor',
    'pty',
    '-chardev',
    'pty,id=con,mux=on',
    '-device',
    'isa-serial,chardev=con,index=1',
  ])
  if (command.kind !== 'run') throw new Error(command.text)
  const wiring = await openChardevs(planChardevs(command.settings), {
    escapeCode: 1,
    onQuit() {},
    report() {},
    inform() {},
    announce: (message) => said.push(message),
  })
  t.teardown(() => wiring.close())
  t.deepEqual(
    said.map((line) => line.replace(/\d+ \(/, 'N (')),
    ['con-base', 'serial0', 'compat_monitor0'].map(
      (label) => `char device redirected to /dev/pts/N (label ${label})`,
    ),
  )
  const terminal = wiring.list().find(({ label }) => label === 'serial0')
  t.regex(terminal?.filename ?? '', /^pty:\/dev\/pts\/\d+$/)
  t.throws(() => parseCommand(['-chardev', 'pty,id=a,path=/tmp/x']), {
    message: /'path' belongs to 'file', 'pipe', 'socket', not 'pty'/,
  })
})
