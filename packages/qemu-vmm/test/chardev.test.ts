import { once } from 'node:events'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import * as fc from 'fast-check'
import test from 'ava'

import { RingbufChardev } from '../src/chardev/ringbuf.ts'
import { SocketChardev } from '../src/chardev/socket.ts'
import { runMonitorLine } from '../src/monitor/commands.ts'
import { Monitor } from '../src/monitor/monitor.ts'
import { bytes, text } from './fixtures/fake-device.ts'
import { FakeMachine } from './fixtures/fake-machine.ts'
import { Peer, accept, eventually, said, wire } from './support/char-peers.ts'
import { scratchFolder } from './support/images.ts'

const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

let names = 0
function socketPath(): string {
  return join(folder, `s${names++}`)
}

test('a server carries bytes both ways, and tells who is there', async (t) => {
  const path = socketPath()
  const wiring = await wire('-serial', `unix:${path},server=on,wait=off`)
  const serial = wiring.serials[0]!
  let heard = ''
  serial.canRead = () => 16
  serial.onData = (data) => {
    t.true(data.length <= 16)
    heard += text(data)
  }
  t.deepEqual(wiring.list(), [
    { label: 'serial0', filename: `disconnected:unix:${path},server=on`, isOpen: true },
    { label: 'parallel0', filename: 'null', isOpen: true },
  ])
  t.true(serial.write(bytes('nobody hears this')))
  const peer = await Peer.to(path)
  await eventually(() => serial.connected === true)
  t.is(wiring.list()[0]?.filename, `unix:${path},server=on`)
  serial.write(bytes('hello'))
  await peer.until('hello')
  t.is(peer.received, 'hello')
  peer.socket.write('x'.repeat(1000))
  await eventually(() => heard.length === 1000)
  wiring.close()
  t.false(existsSync(path), 'the socket is removed')
})

test('peers of a server have their turn one after the other', async (t) => {
  const path = socketPath()
  const wiring = await wire('-serial', `unix:${path},server=on,wait=off`)
  const serial = wiring.serials[0]!
  let opens = 0
  let hangups = 0
  serial.onOpen = () => opens++
  serial.onHangup = () => hangups++
  const first = await Peer.to(path)
  await eventually(() => opens === 1)
  const second = await Peer.to(path)
  serial.write(bytes('one'))
  await first.until('one')
  t.is(second.received, '')
  first.socket.end()
  await eventually(() => opens === 2)
  t.is(hangups, 1)
  serial.write(bytes('two'))
  await second.until('two')
  t.is(second.received, 'two')
  second.socket.destroy()
  await eventually(() => hangups === 2)
  t.false(serial.connected)
  const others = await Promise.all(Array.from({ length: 40 }, () => Peer.to(path)))
  await eventually(() => others.filter(({ socket }) => socket.destroyed).length >= 30)
  t.true(serial.connected, 'so many at once are not kept waiting, but one has the device')
  wiring.close()
})

test('wait=on waits for the first peer and says so', async (t) => {
  const path = socketPath()
  let ready = false
  const opening = wire('-chardev', `socket,id=c,path=${path},server=on`).then((wiring) => {
    ready = true
    return wiring
  })
  await eventually(() => said.some((line) => line.includes(path)))
  t.regex(
    said.find((line) => line.includes(path)) ?? '',
    /^-chardev .*: info: QEMU waiting for connection on: disconnected:unix:.*,server=on$/,
  )
  t.false(ready)
  const peer = await Peer.to(path)
  const wiring = await opening
  wiring.close()
  await once(peer.socket, 'close')
})

test('a socket that a killed process left is replaced, anything else is refused', async (t) => {
  const path = socketPath()
  const stale = createServer().listen(path)
  await once(stale, 'listening')
  const wiring = await wire('-serial', `unix:${path},server=on,wait=off`)
  await Peer.to(path)
  await eventually(() => wiring.serials[0]?.connected === true)
  wiring.close()
  stale.close()
  const file = socketPath()
  writeFileSync(file, 'precious')
  await t.throwsAsync(wire('-serial', `unix:${file},server=on,wait=off`), {
    message: /Failed to bind socket to '.*': there is something else than a socket/,
  })
  t.is(readFileSync(file, 'utf8'), 'precious')
  await t.throwsAsync(wire('-serial', 'unix:/nonexistent/s,server=on,wait=off'), {
    message: /^-serial .*: Failed to bind socket to '\/nonexistent\/s': No such file or directory$/,
  })
})

test('a client connects, and comes back where it is told to', async (t) => {
  const path = socketPath()
  await t.throwsAsync(wire('-serial', `unix:${path}`), {
    message: /Failed to connect to '.*': No such file or directory$/,
  })
  const device = await SocketChardev.connect({ address: { type: 'unix', path }, report() {} }, 5)
  t.is(device.filename, `disconnected:unix:${path}`)
  const server = createServer().listen(path)
  const peer = await accept(server)
  await eventually(() => device.connected)
  device.write(bytes('first'))
  await peer.until('first')
  peer.socket.destroy()
  const again = await accept(server)
  await eventually(() => device.connected)
  device.write(bytes('second'))
  await again.until('second')
  device.close()
  await once(again.socket, 'close')
  const accepted = accept(server)
  const single = await SocketChardev.connect({ address: { type: 'unix', path }, report() {} }, 0)
  const last = await accepted
  const left = new Promise<void>((resolve) => {
    single.onHangup = resolve
  })
  last.socket.destroy()
  await left
  t.true(single.write(bytes('dropped')))
  single.close()
  server.close()
})

test('a peer that never reads loses output, and holds nobody up for ever', async (t) => {
  const path = socketPath()
  const reports: string[] = []
  const device = await SocketChardev.listen({
    address: { type: 'unix', path },
    stallMs: 20,
    report: (message) => reports.push(message),
  })
  const socket = connect(path)
  socket.pause()
  await device.opened()
  const chunk = new Uint8Array(64 * 1024).fill(0x78)
  let accepted = 0
  while (device.write(chunk.slice())) accepted += chunk.length
  t.true(accepted < 16 << 20, 'what waits has a limit')
  t.false(device.write(chunk.slice()))
  await new Promise<void>((resolve) => {
    device.onWritable = resolve
  })
  t.is(reports.length, 1)
  t.regex(reports[0]!, /nobody reads from the socket/)
  for (let i = 0; i < 1000; i++) t.true(device.write(chunk), 'dropped')
  const peer = new Peer(socket)
  const moved = new Promise<void>((resolve) => {
    device.onWritable = resolve
  })
  socket.resume()
  await moved
  device.write(bytes('END'))
  await peer.until('END')
  t.true(peer.received.length <= accepted + chunk.length + 3)
  device.close()
})

test('a peer that leaves while its user waits lets the user go on', async (t) => {
  const path = socketPath()
  const device = await SocketChardev.listen({ address: { type: 'unix', path }, report() {} })
  const socket = connect(path)
  socket.pause()
  await device.opened()
  while (device.write(new Uint8Array(64 * 1024)));
  const writable = new Promise<void>((resolve) => {
    device.onWritable = resolve
  })
  socket.destroy()
  await writable
  t.true(device.write(bytes('into the void')))
  device.close()
})

test('input that the user does not take stays with the peer', async (t) => {
  const path = socketPath()
  const device = await SocketChardev.listen({ address: { type: 'unix', path }, report() {} })
  const wanted = 8 << 20
  let room = 0
  let taken = 0
  device.canRead = () => room
  device.onData = (data) => {
    taken += data.length
    room -= data.length
  }
  const socket = connect(path)
  await device.opened()
  socket.write(new Uint8Array(wanted))
  await new Promise((resolve) => setTimeout(resolve, 50))
  t.true(socket.writableLength > 4 << 20, 'it is not collected here')
  await eventually(() => {
    room = 1 << 20
    device.notifyReadable()
    return taken === wanted
  })
  device.close()
})

test('a monitor greets each peer anew', async (t) => {
  const path = socketPath()
  const wiring = await wire(
    '-chardev',
    `socket,id=m,path=${path},server=on,wait=off`,
    '-mon',
    'chardev=m,mode=readline',
  )
  const monitor = new Monitor(wiring.monitors[0]!.chardev, {
    machine: new FakeMachine(),
    name: 'fake',
    uuid: undefined,
    characters: wiring.characters,
    quit() {},
  })
  const first = await Peer.to(path)
  await first.until('(qemu) ')
  first.socket.write('info na')
  await first.until('info na')
  first.socket.destroy()
  await eventually(() => wiring.monitors[0]?.chardev.connected === false)
  const second = await Peer.to(path)
  await second.until('(qemu) ')
  t.regex(second.received, /^qemu-vmm .* monitor - .*\r\n\(qemu\) $/)
  second.socket.write('info chardev\n')
  await second.until('m: filename=unix:')
  monitor.close()
  wiring.close()
})

test('a multiplexed socket is shared by a serial port and a monitor', async (t) => {
  const path = socketPath()
  const wiring = await wire(
    '-chardev',
    `socket,id=m,path=${path},server=on,wait=off,mux=on`,
    '-serial',
    'chardev:m',
    '-mon',
    'm',
  )
  t.deepEqual(
    wiring.list().map(({ label }) => label),
    ['m', 'm-base', 'parallel0'],
  )
  const serial = wiring.serials[0]!
  serial.canRead = () => 100
  serial.onData = (data) => void serial.write(data)
  const monitor = new Monitor(wiring.monitors[0]!.chardev, {
    machine: new FakeMachine(),
    name: 'fake',
    uuid: undefined,
    characters: wiring.characters,
    quit() {},
  })
  const peer = await Peer.to(path)
  await eventually(() => serial.connected === true)
  peer.socket.write('echo\x01cinfo name\n')
  await peer.until('fake\r\n(qemu) ')
  t.regex(peer.received, /^echo/)
  monitor.close()
  wiring.close()
})

test('a ringbuf keeps the last bytes', (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.integer({ min: 1, max: 40 }))),
      (steps) => {
        const ring = new RingbufChardev(16)
        let model: number[] = []
        for (const step of steps) {
          if (typeof step === 'number') {
            t.deepEqual([...ring.read(step)], model.splice(0, step))
          } else {
            ring.write(step)
            model = [...model, ...step].slice(-16)
          }
        }
      },
    ),
  )
})

test('the monitor reads and writes a ringbuf', async (t) => {
  const wiring = await wire('-chardev', 'ringbuf,id=r,size=8', '-serial', 'chardev:r')
  const run = (line: string): Promise<string> =>
    runMonitorLine(
      {
        machine: new FakeMachine(),
        name: undefined,
        uuid: undefined,
        characters: wiring.characters,
        quit() {},
        history: () => [],
      },
      line,
    )
  wiring.serials[0]!.write(bytes('0123456789'))
  t.is(await run('info chardev'), 'r: filename=ringbuf\nparallel0: filename=null\n')
  t.is(await run('ringbuf_read r 3'), '234\n')
  t.is(await run('ringbuf_read r 100'), '56789\n')
  t.is(await run('ringbuf_write r a\\b\x1b'), '')
  t.is(await run('ringbuf_read r 100'), 'a\\\\b\\u001b\n')
  t.regex(await run('ringbuf_read r 0'), /greater than zero/)
  t.regex(await run('ringbuf_read x 1'), /Device 'x' not found/)
  wiring.close()
})
