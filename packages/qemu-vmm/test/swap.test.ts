import test from 'ava'

import { SwapChardev } from '../src/chardev/swap.ts'
import { CharDevices } from '../src/cli/char-devices.ts'
import type { ChardevSettings, SocketSettings } from '../src/cli/settings.ts'
import { FakeDevice, bytes, text } from './fixtures/fake-device.ts'

test('a device in the place of another has its user, and the one before has none', (t) => {
  const [first, second] = [new FakeDevice(), new FakeDevice()]
  const device = new SwapChardev(first)
  const seen: string[] = []
  let room = 1
  device.canRead = () => room
  device.onData = (data) => {
    seen.push(text(data))
    room -= data.length
  }
  device.onWritable = () => seen.push('writable')
  device.onBreak = () => seen.push('break')
  first.accepts = false
  t.false(device.write(bytes('lost')))
  first.type('ab')
  t.deepEqual(seen, ['a'])
  second.queue.push(bytes('c'))
  room = 1
  device.swap(second)
  t.deepEqual(seen, ['a', 'writable', 'c'])
  room = 9
  first.type('x')
  first.onWritable?.()
  second.type('d')
  t.deepEqual(seen, ['a', 'writable', 'c', 'd'])
  t.true(device.write(bytes('kept')))
  t.is(second.take(), 'kept')
})

test('a break reaches the user of a device, and a device in use stays', async (t) => {
  const made: FakeDevice[] = []
  const devices = new CharDevices(
    async () => {
      made.push(new FakeDevice())
      return made.at(-1)!
    },
    { escapeCode: 1, onQuit() {}, report() {}, inform() {}, announce() {} },
  )
  const settings: ChardevSettings = { backend: 'null', mux: false, signal: false, at: 'a' }
  await devices.add('one', settings)
  const user = devices.use('one', 'device')!
  let breaks = 0
  user.onBreak = () => breaks++
  devices.sendBreak('one')
  t.is(breaks, 1)
  t.throws(() => devices.remove('one'), { code: 'E_CHARDEV', message: "Chardev 'one' is busy" })
  await devices.change('one', settings)
  user.write(bytes('x'))
  t.deepEqual(
    made.map((device) => device.take()),
    ['', 'x'],
  )
  const waiting: SocketSettings = {
    address: { type: 'inet', host: '127.0.0.1', port: 0 },
    protocol: 'tcp',
    noDelay: false,
    server: true,
    wait: true,
    reconnect: 0,
  }
  await t.throwsAsync(devices.add('two', { ...settings, backend: 'socket', socket: waiting }), {
    message: /give wait=off/,
  })
  await devices.add('two', { ...settings, backend: 'stdio' })
  await t.throwsAsync(devices.add('three', { ...settings, backend: 'stdio' }), {
    message: /^Failed to add chardev 'three': cannot use stdio by multiple/,
  })
  t.is(devices.list().length, 2)
})
