import { setTimeout as sleep } from 'node:timers/promises'

import test from 'ava'

import type { SerialBackend } from '../src/chipset/serial-port.ts'
import type { VmmError } from '../src/errors.ts'
import { HostClock, ManualClock } from '../src/machine/clock.ts'
import { Console } from '../src/machine/console.ts'
import { loadDevices } from '../src/machine/device-modules.ts'
import { INPUT_WINDOW_BYTES, OUTPUT_WINDOW_BYTES } from '../src/machine/host/protocol.ts'
import { MainSerial, WorkerSerial } from '../src/machine/host/serial-link.ts'

const encode = (text: string): Uint8Array => new TextEncoder().encode(text)

test('console: expects text across writes, in order, without the rest', async (t) => {
  const console = new Console()
  const first = console.expect('login:')
  const second = console.expect(/[#$] /g)
  console.write(encode('Welcome\nlog'))
  console.write(encode('in: root\n~ # ls'))
  t.is(await first, 'Welcome\nlogin:')
  t.is(await second, ' root\n~ # ')
  t.is(await console.expect('ls'), 'ls')
})

test('console: characters split between writes are put together', async (t) => {
  const console = new Console()
  const bytes = encode('größe')
  console.write(bytes.subarray(0, 3))
  console.write(bytes.subarray(3))
  t.is(await console.expect('größe'), 'größe')
})

test('console: keeps a bounded tail, and shows it when nothing matches', async (t) => {
  const console = new Console()
  for (let i = 0; i < 3000; i++) console.write(encode(`line ${i} of many lines of output\n`))
  t.true(console.screen.length <= 64 * 1024)
  const error = await t.throwsAsync<VmmError>(console.expect('never', 20))
  t.is(error.code, 'E_TIMEOUT')
  t.regex(error.message, /within 20 ms.*line 2999 of/s)
  t.notRegex(error.message, /line 2970 of/)
  const waiting = console.expect('never')
  console.end('the machine ended (shutdown)')
  t.is((await t.throwsAsync<VmmError>(waiting)).code, 'E_ENDED')
  await t.throwsAsync(console.expect('later'), { code: 'E_ENDED' })
})

test('console: types no faster than the guest reads', (t) => {
  const console = new Console()
  let room = 0
  let got = ''
  console.canRead = () => room
  console.onData = (data) => {
    t.true(data.length <= room)
    room -= data.length
    got += Buffer.from(data).toString()
  }
  console.type('hello ')
  console.type('world')
  t.is(got, '')
  for (const more of [3, 4, 100]) {
    room = more
    console.notifyReadable()
  }
  t.is(got, 'hello world')
})

/** Both ends of a link whose messages are delivered one by one. */
function link(backend: SerialBackend): { worker: WorkerSerial; deliver: () => number } {
  const messages: (() => void)[] = []
  const worker = new WorkerSerial(
    (data) => messages.push(() => main.output(data)),
    (bytes) => messages.push(() => main.addRoom(bytes)),
    (work) => work(),
  )
  const main = new MainSerial(
    backend,
    (data) => messages.push(() => worker.input(data)),
    (bytes) => messages.push(() => worker.addCredit(bytes)),
    () => messages.push(() => worker.onBreak?.()),
  )
  const deliver = (): number => {
    let count = 0
    for (let next = messages.shift(); next !== undefined; next = messages.shift()) {
      next()
      count++
    }
    return count
  }
  return { worker, deliver }
}

test('serial link: output stops when the outside does not take it, and goes on', (t) => {
  let accepts = false
  let got = 0
  const backend: SerialBackend = {
    write(data) {
      if (accepts) got += data.length
      return accepts
    },
    close() {},
  }
  const { worker, deliver } = link(backend)
  let sent = 0
  const chunk = new Uint8Array(4096)
  const send = (): void => {
    while (sent < 4 * OUTPUT_WINDOW_BYTES && worker.write(chunk)) sent += chunk.length
  }
  worker.onWritable = send
  send()
  deliver()
  t.is(sent, OUTPUT_WINDOW_BYTES, 'no more than the window is under way')
  t.is(got, 0)
  accepts = true
  backend.onWritable?.()
  deliver()
  t.is(got, 4 * OUTPUT_WINDOW_BYTES)
})

test('serial link: input stays within the window and arrives in order', (t) => {
  const backend: SerialBackend = { write: () => true, close() {} }
  const { worker, deliver } = link(backend)
  const received: number[] = []
  let room = 0
  worker.canRead = () => room
  worker.onData = (data) => {
    t.true(data.length <= room)
    room -= data.length
    received.push(...data)
  }
  let next = 0
  backend.notifyReadable = () => {
    const length = Math.min(backend.canRead?.() ?? 0, 10_000 - next)
    if (length === 0) return
    const from = next
    next += length
    backend.onData?.(Uint8Array.from({ length }, (_, i) => from + i))
  }
  backend.notifyReadable()
  deliver()
  t.is(next, INPUT_WINDOW_BYTES)
  for (let i = 0; i < 2000 && received.length < 10_000; i++) {
    room = 14
    worker.notifyReadable()
    deliver()
  }
  t.deepEqual(
    received,
    Array.from({ length: 10_000 }, (_, i) => i & 0xff),
  )
  let breaks = 0
  worker.onBreak = () => breaks++
  backend.onBreak?.()
  deliver()
  t.is(breaks, 1)
})

test('clock: stands still while paused, and timers with it', async (t) => {
  const clock = new HostClock()
  t.is(clock.nowNs(), 0)
  let fired = 0
  clock.setTimer(5e6, () => fired++)
  clock.setTimer(6e6, () => fired++).cancel()
  await sleep(20)
  t.is(clock.nowNs(), 0)
  t.is(fired, 0)
  clock.resume()
  await sleep(50)
  t.is(fired, 1)
  clock.pause()
  const stopped = clock.nowNs()
  t.true(stopped >= 5e6)
  await sleep(10)
  t.is(clock.nowNs(), stopped)
  clock.set(1e15)
  t.is(clock.nowNs(), 1e15)
})

test('clock: the manual one runs timers in order at their own time', (t) => {
  const clock = new ManualClock(1000)
  const seen: number[] = []
  clock.setTimer(300, () => seen.push(clock.nowNs()))
  clock.setTimer(100, () => {
    seen.push(clock.nowNs())
    clock.setTimer(200, () => seen.push(clock.nowNs()))
  })
  clock.advance(250)
  t.deepEqual(seen, [100, 200])
  clock.pause()
  clock.advance(100)
  t.deepEqual(seen, [100, 200])
  clock.resume()
  clock.advance(100)
  t.deepEqual(seen, [100, 200, 300])
})

test('device modules: all definitions of a module, each once; none is an error', async (t) => {
  const devices = await loadDevices([new URL('fixtures/worker-devices.mjs', import.meta.url)])
  t.deepEqual(
    devices.map((d) => d.name),
    ['broken'],
  )
  const empty = new URL('data:text/javascript,export const answer = 42')
  await t.throwsAsync(loadDevices([empty]), { code: 'E_CONFIG', message: /exports no device/ })
})
