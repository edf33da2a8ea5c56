// Character devices over TCP, telnet, UDP and named pipes.
import { execFileSync, spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync, readSync, rmSync, writeSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test from 'ava'

import type { Chardev } from '../src/chardev/chardev.ts'
import { SocketChardev } from '../src/chardev/socket.ts'
import { TelnetReader, telnetData } from '../src/chardev/telnet.ts'
import { bytes, text } from './fixtures/fake-device.ts'
import { Peer, accept, eventually, said, wire } from './support/char-peers.ts'
import { scratchFolder } from './support/images.ts'

const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))
const HOST = '127.0.0.1'
const GREETING = '\xff\xfb\x01\xff\xfb\x03\xff\xfb\x00\xff\xfd\x00'

/** The port that a server was given. */
function portOf({ filename = '' }: { filename?: string | undefined } = {}): number {
  return Number(/:([0-9]+),server=on/.exec(filename)?.[1])
}

/** The number that the process has for a socket. */
function fdOf(socket: object): number {
  return (socket as Record<string, { fd: number }>)['_handle']!.fd
}

/** Collects what a user gets. */
function listener(user: Chardev): { heard: string } {
  const got = { heard: '' }
  user.canRead = () => 16
  user.onData = (data) => {
    got.heard += text(data)
  }
  return got
}

test('a TCP server carries bytes both ways, and shows both ends', async (t) => {
  const wiring = await wire('-serial', `tcp:${HOST}:0,server,nowait,nodelay`)
  const serial = wiring.serials[0]!
  const got = listener(serial)
  const port = portOf(serial)
  t.true(port > 0, serial.filename)
  t.is(serial.filename, `disconnected:tcp:${HOST}:${port},server=on`)
  const peer = await Peer.to({ host: HOST, port })
  await eventually(() => serial.connected === true)
  t.is(serial.filename, `tcp:${HOST}:${port},server=on <-> ${HOST}:${peer.socket.localPort ?? 0}`)
  serial.write(bytes('hello \xff'))
  await peer.until('hello \xff')
  peer.socket.write('x'.repeat(1000))
  await eventually(() => got.heard.length === 1000)
  const second = await Peer.to({ host: HOST, port })
  serial.write(bytes('one'))
  await peer.until('one')
  t.is(second.received, '')
  peer.socket.resetAndDestroy()
  await eventually(() => serial.filename?.includes(`:${second.socket.localPort}`) === true)
  serial.write(bytes('two'))
  await second.until('two')
  wiring.close()
  await once(second.socket, 'close')
})

test('a port that is in use is named, and another one is found with to=', async (t) => {
  const other = createServer().listen(0, HOST)
  await once(other, 'listening')
  const { port } = other.address() as AddressInfo
  await t.throwsAsync(wire('-serial', `tcp:${HOST}:${port},server,nowait`), {
    message: new RegExp(`Failed to find an available port at ${HOST}:${port}: Address already in`),
  })
  const last = Math.min(port + 50, 65_535)
  const wiring = await wire('-serial', `tcp:${HOST}:${port},server,nowait,to=${last}`)
  const found = portOf(wiring.serials[0])
  t.true(found > port && found <= last)
  wiring.close()
  other.close()
})

test('hosts that are not known, or are not here, are refused', async (t) => {
  const refuse = async (device: string, message: RegExp): Promise<void> =>
    void (await t.throwsAsync(wire('-serial', device), { message }))
  const unknown = /address resolution failed for no.such.invalid:1: Name or service not known/
  await refuse('tcp:no.such.invalid:1,server,nowait', unknown)
  await refuse('tcp:no.such.invalid:1', unknown)
  await refuse('udp:no.such.invalid:1', unknown)
  await refuse('tcp::1', /address resolution failed for :1: Name or service not known/)
  const away = /Failed to bind socket to 192\.0\.2\.1:1: Cannot assign|address not available/i
  await refuse('tcp:192.0.2.1:1,server,nowait', away)
  await refuse(`udp:${HOST}:1@192.0.2.1:1`, away)
  await refuse(`tcp:${HOST}:1`, /Failed to connect to '127\.0\.0\.1:1': Connection refused/)
})

test('a TCP client connects, and says once that it could not yet', async (t) => {
  const server = createServer().listen(0, HOST)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const accepted = accept(server)
  const wiring = await wire('-serial', `tcp:${HOST}:${port},nodelay=on`)
  const serial = wiring.serials[0]!
  const peer = await accepted
  t.is(serial.filename, `tcp:${HOST}:${peer.socket.remotePort ?? 0} <-> ${HOST}:${port}`)
  serial.write(bytes('out'))
  await peer.until('out')
  peer.socket.destroy()
  await eventually(() => serial.connected === false)
  t.is(serial.filename, `disconnected:tcp:${HOST}:${port}`)
  wiring.close()
  server.close()
  await once(server, 'close')
  const reports: string[] = []
  const device = await SocketChardev.connect(
    {
      address: { type: 'inet', host: HOST, port },
      label: 'c',
      report: (message) => reports.push(message),
    },
    5,
  )
  await eventually(() => reports.length > 0)
  const later = createServer().listen(port, HOST)
  const again = await accept(later)
  await eventually(() => device.connected)
  t.deepEqual(reports, [
    `Unable to connect character device c: Failed to connect to '${HOST}:${port}': Connection refused`,
  ])
  device.close()
  await once(again.socket, 'close')
  later.close()
})

test('wait=on waits for a peer of telnet, who is greeted first', async (t) => {
  let isReady = false
  const opening = wire('-serial', `telnet:${HOST}:0,server`).then((wiring) => {
    isReady = true
    return wiring
  })
  const waits = (line: string): boolean => line.includes(`disconnected:telnet:${HOST}`)
  await eventually(() => said.some(waits))
  const line = said.find(waits) ?? ''
  t.regex(line, /info: QEMU waiting for connection on: disconnected:telnet:127.*,server=on$/)
  t.false(isReady)
  const peer = await Peer.to({ host: HOST, port: portOf({ filename: line }) })
  const wiring = await opening
  const serial = wiring.serials[0]!
  const got = listener(serial)
  let breaks = 0
  serial.onBreak = () => breaks++
  serial.write(bytes('login: \xff'))
  await peer.until(': ')
  await eventually(() => peer.received.length === GREETING.length + 9)
  t.is(peer.received, `${GREETING}login: \xff\xff`)
  t.regex(serial.filename ?? '', /^telnet:127.0.0.1:\d+,server=on <-> 127.0.0.1:\d+$/)
  peer.socket.write(Buffer.from('a\xff\xfd\x01b\xff\xf3c\xff\xffd', 'latin1'))
  await eventually(() => got.heard.endsWith('d'))
  t.is(got.heard, 'abc\xffd')
  t.is(breaks, 1)
  wiring.close()
})

test('telnet commands are taken out wherever the stream is cut', (t) => {
  const sent = Buffer.from(
    '\xff\xfb\x1f1\xff\xfa\x1f\x00\x50\xff\xff\x00\x18\xff\xf02\xff\xf13\xff\xf34\xff\xff5',
    'latin1',
  )
  for (let cut = 0; cut <= sent.length; cut++) {
    let breaks = 0
    const reader = new TelnetReader(() => breaks++)
    const data = [sent.subarray(0, cut), sent.subarray(cut)].map((part) => text(reader.take(part)))
    t.is(data.join(''), '1234\xff5', `cut at ${cut}`)
    t.is(breaks, 1)
  }
  t.is(text(telnetData(bytes('\xffa\xff'))), '\xff\xffa\xff\xff')
})

test('a peer of telnet that goes in the middle of a command leaves nothing to the next', async (t) => {
  const wiring = await wire('-serial', `telnet:${HOST}:0,server,nowait`)
  const serial = wiring.serials[0]!
  const got = listener(serial)
  const place = { host: HOST, port: portOf(serial) }
  const first = await Peer.to(place)
  first.socket.write(Buffer.from('a\xff', 'latin1'))
  await eventually(() => got.heard === 'a')
  first.socket.destroy()
  await eventually(() => serial.connected === false)
  const second = await Peer.to(place)
  second.socket.write('bc')
  await eventually(() => got.heard.length === 3)
  t.is(got.heard, 'abc')
  wiring.close()
})

test('a name in no folder is one of the abstract ones', async (t) => {
  const path = `char-${process.pid}-${Date.now()}`
  const wiring = await wire('-serial', `unix:${path},abstract=on,tight=off,server,nowait`)
  const serial = wiring.serials[0]!
  t.is(serial.filename, `disconnected:unix:${path},abstract=on,server=on`)
  t.true(readFileSync('/proc/net/unix', 'latin1').includes(`@${path}@`))
  const client = await wire('-serial', `unix:${path},abstract=on,tight=off`)
  await eventually(() => serial.connected === true)
  const got = listener(client.serials[0]!)
  serial.write(bytes('hi'))
  await eventually(() => got.heard === 'hi')
  client.close()
  wiring.close()
})

test('UDP sends to one peer, and hears only that one', async (t) => {
  const peer = createSocket('udp4')
  const other = createSocket('udp4')
  for (const socket of [peer, other]) {
    await new Promise<void>((resolve) => void socket.bind(0, HOST, resolve))
  }
  const wiring = await wire('-serial', `udp:${HOST}:${peer.address().port}@${HOST}:0`)
  const serial = wiring.serials[0]!
  const got = listener(serial)
  t.is(serial.filename, 'udp')
  const arrived = once(peer, 'message')
  serial.write(bytes('one datagram'))
  const [data, from] = (await arrived) as [Uint8Array, AddressInfo]
  t.is(text(data), 'one datagram')
  other.send('not you', from.port, HOST)
  await new Promise((resolve) => other.send('nor you', from.port, HOST, resolve))
  peer.send('x'.repeat(100), from.port, HOST)
  await eventually(() => got.heard.length >= 100)
  t.is(got.heard, 'x'.repeat(100))
  peer.close()
  // The host says that nobody is there: that ends nothing.
  for (let i = 0; i < 5; i++) {
    t.true(serial.write(bytes('to nobody')))
    await new Promise(setImmediate)
  }
  await wiring.drained()
  other.close()
  wiring.close()
})

test('named pipes carry bytes, and output waits for a reader', async (t) => {
  const path = join(folder, 'p')
  execFileSync('mkfifo', [`${path}.in`, `${path}.out`])
  const wiring = await wire('-serial', `pipe:${path}`)
  const serial = wiring.serials[0]!
  const got = listener(serial)
  t.is(serial.filename, 'pipe')
  const input = openSync(`${path}.in`, 'w')
  writeSync(input, 'typed')
  await eventually(() => got.heard === 'typed')
  closeSync(input)
  let written = 0
  while (serial.write(new Uint8Array(4096).fill(0x78))) written += 4096
  t.true(written >= 4096 && written < 1 << 20, 'what waits has a limit')
  const isWritable = new Promise<void>((resolve) => {
    serial.onWritable = resolve
  })
  const output = openSync(`${path}.out`, 'r')
  let read = 0
  const buffer = new Uint8Array(1 << 20)
  while (read < written) {
    read += readSync(output, buffer)
    await new Promise(setImmediate)
  }
  await isWritable
  t.is(buffer[0], 0x78)
  closeSync(output)
  wiring.close()
})

test('one named pipe is for both ways, and nothing else is a pipe', async (t) => {
  const path = join(folder, 'both')
  execFileSync('mkfifo', [path])
  const wiring = await wire('-serial', `pipe:${path}`)
  const got = listener(wiring.serials[0]!)
  const end = openSync(path, 'w')
  writeSync(end, 'hello')
  await eventually(() => got.heard === 'hello')
  closeSync(end)
  wiring.close()
  const missing = join(folder, 'missing')
  await t.throwsAsync(wire('-serial', `pipe:${missing}`), {
    message: /Could not open '.*missing': No such file or directory$/,
  })
  const file = join(folder, 'file')
  closeSync(openSync(file, 'w'))
  await t.throwsAsync(wire('-serial', `pipe:${file}`), { message: /it is not a named pipe/ })
  closeSync(openSync(`${file}.in`, 'w'))
  await t.throwsAsync(wire('-serial', `pipe:${file}`), { message: /file\.in': it is not a named/ })
})

test('open sockets are taken over, and nothing else', async (t) => {
  const server = createServer().listen(0, HOST)
  const pair = createServer().listen(join(folder, 'pair'))
  await Promise.all([once(server, 'listening'), once(pair, 'listening')])
  const { port } = server.address() as AddressInfo
  const accepted = accept(pair)
  const given = connect(join(folder, 'pair'))
  const far = await accepted
  const fixture = fileURLToPath(new URL('fixtures/inherited-sockets.ts', import.meta.url))
  const child = spawn(process.execPath, ['--import=tsx', fixture], {
    stdio: ['ignore', 'inherit', 'inherit', fdOf(server), fdOf(given)],
  })
  // From here on they are the other process's.
  server.close()
  given.destroy()
  const near = await Peer.to({ host: HOST, port })
  near.socket.write('near')
  await near.until('echo near')
  far.socket.write('far')
  await far.until('echo far')
  near.socket.destroy()
  far.socket.destroy()
  const [code] = (await once(child, 'exit')) as [number]
  t.is(code, 0)
  pair.close()
  const file = openSync(join(folder, 'no-socket'), 'w')
  for (const role of ['', ',server=on,wait=off']) {
    for (const bad of [file, 9999]) {
      await t.throwsAsync(wire('-chardev', `socket,id=c,fd=${bad}${role}`), {
        message: new RegExp(`File descriptor '${bad}' is not a socket`),
      })
    }
  }
  closeSync(file)
})
