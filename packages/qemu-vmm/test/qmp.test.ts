// QMP: framing, negotiation, QEMU's texts of errors, events, and the block graph.
import test from 'ava'
import * as fc from 'fast-check'

import type { CharUser } from '../src/cli/settings.ts'
import { parseCommand } from '../src/cli/parse.ts'
import { VmmError } from '../src/errors.ts'
import { JsonFramer } from '../src/monitor/qmp/framing.ts'
import { formatJson } from '../src/monitor/qmp/json.ts'
import type { Frame } from '../src/monitor/qmp/framing.ts'
import { bytes } from './fixtures/fake-device.ts'
import { monitorOf } from './fixtures/fake-machine.ts'
import { create, negotiated } from './support/qmp-session.ts'

const failure = (desc: string, cls = 'GenericError'): object => ({ error: { class: cls, desc } })

test('a session begins with a greeting and its negotiation', async (t) => {
  const { say } = await create()
  t.like(await say(' \n'), [
    { QMP: { version: { qemu: { major: 7, minor: 2 } }, capabilities: [] } },
  ])
  t.deepEqual(await say('{"execute":"query-status","id":1}'), [
    {
      id: 1,
      ...failure("Expecting capabilities negotiation with 'qmp_capabilities'", 'CommandNotFound'),
    },
  ])
  t.deepEqual(await say('{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}'), [
    failure("Parameter 'null' does not accept value 'oob'"),
  ])
  t.deepEqual(await say('{"execute":"qmp_capabilities","id":{"a":[1]}}'), [
    { return: {}, id: { a: [1] } },
  ])
  t.deepEqual(await say('{"execute":"qmp_capabilities"}'), [
    failure('Capabilities negotiation is already complete, command ignored', 'CommandNotFound'),
  ])
})

test('what is wrong with a command is said with the words of QEMU', async (t) => {
  const { say } = await negotiated()
  for (const [text, desc, cls] of [
    ['[1]', 'QMP input must be a JSON object'],
    ['1\n', 'QMP input must be a JSON object'],
    ['{"execute":3}', "QMP input member 'execute' must be a string"],
    ['{"exec":"x"}', "QMP input member 'exec' is unexpected"],
    ['{}', "QMP input lacks member 'execute'"],
    ['{"execute":"stop","arguments":[]}', "QMP input member 'arguments' must be an object"],
    ['{"execute":"stop","foo":1}', "QMP input member 'foo' is unexpected"],
    ['{"exec-oob":"stop"}', 'The command stop does not support OOB'],
    ['{"execute":"stop","arguments":{"x":1}}', "Parameter 'x' is unexpected"],
    ['{"execute":"nope"}', 'The command nope has not been found', 'CommandNotFound'],
    ['{"execute":"device_del"}', "Parameter 'id' is missing"],
    [
      '{"execute":"device_del","arguments":{"id":3}}',
      "Invalid parameter type for 'id', expected: string",
    ],
    [
      '{"execute":"device_del","arguments":{"id":"nothing"}}',
      "Device 'nothing' not found",
      'DeviceNotFound',
    ],
    ['{"execute":"device_add","arguments":{}}', "Parameter 'driver' is missing"],
    ['{"execute":"object-add","arguments":{"id":"o"}}', "Parameter 'qom-type' is missing"],
    [
      '{"execute":"object-add","arguments":{"qom-type":"rng-builtin"}}',
      "Parameter 'id' is missing",
    ],
    [
      '{"execute":"blockdev-del","arguments":{"node-name":"n"}}',
      "Failed to find node with node-name='n'",
    ],
    [
      '{"execute":"device-list-properties","arguments":{"typename":"n"}}',
      "Device 'n' not found",
      'DeviceNotFound',
    ],
  ] as const) {
    t.deepEqual(await say(text), [failure(desc, cls)], text)
  }
  for (const text of ['foo\n', '{"execute":"stop",}\n', '}\n', '"abc\n', '{"a": tru}']) {
    const [answer] = (await say(text)) as [{ error: { desc: string } }]
    t.regex(answer.error.desc, /^JSON parse error, /, text)
  }
  t.deepEqual(await say('{"execute":"query-name"}{"execute":"query-uuid"}'), [
    { return: { name: 'vm1' } },
    { return: { UUID: '00000000-0000-0000-0000-000000000000' } },
  ])
})

test('commands do what they say, and events tell of it', async (t) => {
  const { machine, device, say, quits } = await negotiated()
  const time = { timestamp: { seconds: 1_700_000_000, microseconds: 250_500 } }
  t.deepEqual(await say('{"execute":"query-status"}'), [
    { return: { status: 'running', singlestep: false, running: true } },
  ])
  await say(
    '{"execute":"stop"}{"execute":"cont"}{"execute":"system_reset"}{"execute":"system_powerdown"}',
  )
  await say(
    '{"execute":"device_add","arguments":{"driver":"virtio-rng-pci","id":"r","addr":"5","multifunction":true}}',
  )
  await say('{"execute":"device_del","arguments":{"id":"r"}}')
  await say(
    '{"execute":"object-add","arguments":{"qom-type":"rng-random","id":"o","filename":"a,b"}}',
  )
  await say('{"execute":"object-del","arguments":{"id":"o"}}')
  t.deepEqual(machine.calls, [
    'pause',
    'resume',
    'reset',
    'powerdown',
    'device {"driver":"virtio-rng-pci","id":"r","properties":{"addr":"5","multifunction":"on"}}',
    'no device r',
    'object {"type":"rng-random","id":"o","filename":"a,b"}',
    'no object o',
  ])
  t.deepEqual(
    await say('{"execute":"human-monitor-command","arguments":{"command-line":"info status"}}'),
    [{ return: 'info status?\r\n' }],
  )
  machine.calls.length = 0
  const key = (data: string): object => ({ type: 'qcode', data })
  const keys = { keys: [key('ctrl'), key('a')], 'hold-time': 5 }
  t.deepEqual(await say(JSON.stringify({ execute: 'send-key', arguments: keys })), [{ return: {} }])
  const numbers = [0x1d, 0x9d, 0x1e].map((data) => ({ type: 'number', data }))
  const send = (named: object): string =>
    JSON.stringify({ execute: 'send-key', arguments: { keys: named } })
  t.deepEqual(await say(send(numbers)), [{ return: {} }])
  t.deepEqual(machine.calls.slice(0, 1), ['keys ctrl a 5'])
  t.regex(machine.calls[1] ?? '', /^keys ctrl ctrl_r a /)
  t.like(await say(send([{ type: 'number', data: 0x7f }])), [
    { error: { desc: "Parameter 'data' does not accept value '127'" } },
  ])
  const file = { filename: '/nowhere/screen', format: 'png' }
  device.type(JSON.stringify({ execute: 'screendump', arguments: file }))
  // The file system takes its time.
  while (device.written === '') await new Promise((resolve) => setTimeout(resolve, 1))
  t.like(await say(''), [{ error: { class: 'GenericError' } }])
  machine.emitter.emit('stop')
  machine.emitter.emit('reset', { guest: true })
  machine.emitter.emit('shutdown', { reason: 'guest-shutdown' })
  machine.emitter.emit('guest-panicked', { action: 'pause' })
  machine.emitter.emit('device-deleted', { id: 'r', path: '/machine/peripheral/r' })
  t.deepEqual(await say(''), [
    { ...time, event: 'STOP' },
    { ...time, event: 'RESET', data: { guest: true, reason: 'guest-reset' } },
    { ...time, event: 'SHUTDOWN', data: { guest: true, reason: 'guest-shutdown' } },
    { ...time, event: 'GUEST_PANICKED', data: { action: 'pause' } },
    { ...time, event: 'DEVICE_DELETED', data: { device: 'r', path: '/machine/peripheral/r' } },
  ])
  t.deepEqual(await say('{"execute":"quit","id":9}{"execute":"stop"}'), [
    { ...time, event: 'SHUTDOWN', data: { guest: false, reason: 'host-qmp-quit' } },
    { return: {}, id: 9 },
  ])
  t.is(quits(), 1)
})

test('every command that is listed is there', async (t) => {
  const { say } = await negotiated()
  const [answer] = (await say('{"execute":"query-commands"}')) as [{ return: { name: string }[] }]
  const names = answer.return.map(({ name }) => name)
  t.true(names.includes('quit') && names.includes('device_add'))
  for (const name of names.filter((known) => known !== 'quit')) {
    const [reply] = (await say(JSON.stringify({ execute: name, arguments: { nothing: 1 } }))) as [
      { error: { class: string; desc: string } },
    ]
    t.true('error' in reply, name)
    t.notRegex(reply.error.desc, /has not been found/)
  }
})

test('a format node takes over the file node below it, and gives it back', async (t) => {
  const { machine, say } = await negotiated()
  const add = (args: object): Promise<unknown[]> =>
    say(JSON.stringify({ execute: 'blockdev-add', arguments: args }))
  const del = (name: string): Promise<unknown[]> =>
    say(JSON.stringify({ execute: 'blockdev-del', arguments: { 'node-name': name } }))
  const names = (): string[] => machine.open.map(({ id }) => id)
  t.deepEqual(await add({ driver: 'file', 'node-name': 'f', filename: 'x' }), [{ return: {} }])
  t.deepEqual(names(), ['f'])
  t.deepEqual(await add({ driver: 'qcow2', 'node-name': 'q', file: 'f', 'read-only': true }), [
    { return: {} },
  ])
  t.deepEqual(names(), ['q'])
  t.deepEqual(await say('{"execute":"query-block"}'), [{ return: [] }], 'no device has it')
  t.like(await say('{"execute":"query-named-block-nodes"}'), [
    { return: [{ 'node-name': 'q', file: 'x', drv: 'qcow2', ro: true }] },
  ])
  machine.open[0]!.owner = 'disk'
  t.like(await say('{"execute":"query-block"}'), [
    { return: [{ device: '', qdev: 'disk', 'io-status': 'ok', inserted: { 'node-name': 'q' } }] },
  ])
  t.like(machine.open[0], { file: 'x', format: 'qcow2', readOnly: true })
  t.like(await add({ driver: 'file', 'node-name': 'f', filename: 'y' }), [
    { error: { desc: "Duplicate nodes with node-name='f'" } },
  ])
  t.deepEqual(await del('f'), [failure('Node f is in use by q')])
  t.deepEqual(await del('q'), [{ return: {} }])
  t.deepEqual(names(), ['f'])
  t.deepEqual(await del('f'), [{ return: {} }])
  t.deepEqual(names(), [])
  const nested = { driver: 'file', filename: '/nowhere' }
  t.deepEqual(await add({ driver: 'raw', 'node-name': 'r', file: nested }), [
    failure('Could not open'),
  ])
  t.deepEqual(await add({ driver: 'raw', 'node-name': 'r', file: { ...nested, filename: 'z' } }), [
    { return: {} },
  ])
})

test('a peer that does not read is told no more than fits', async (t) => {
  const { machine, device, say } = await negotiated()
  device.accepts = false
  for (let i = 0; i < 40_000; i++) machine.emitter.emit('stop')
  device.accepts = true
  device.onWritable?.()
  const lines = (await say('')).length
  t.true(lines > 10_000 && lines < 40_000, String(lines))
  t.deepEqual(await say('{"execute":"query-name"}'), [{ return: { name: 'vm1' } }])
})

test('a stream is cut at values, wherever it is split, and at lines that are none', (t) => {
  const cut = (text: string): Frame[] => {
    const framer = new JsonFramer()
    return [...Buffer.from(text)].flatMap((byte) => framer.feed(byte) ?? [])
  }
  t.deepEqual(
    cut('{"a":"}\\"{"}[1]{}\n').map((f) => ('text' in f ? f.text : '')),
    ['{"a":"}\\"{"}', '[1]', '{}'],
  )
  t.deepEqual(cut('{\n"a":\n1}'), [{ text: '{\n"a":\n1}' }])
  t.like(cut('['.repeat(2000)), [{ error: 'JSON nesting depth limit exceeded' }])
  t.like(cut(`{"${'x'.repeat(1 << 20)}`), [{ error: 'JSON token size limit exceeded' }])
  fc.assert(
    fc.property(fc.json(), (json) => {
      const frames = cut(`${json}\n`)
      t.deepEqual(frames, [{ text: json.trim() }])
    }),
  )
})

test('no bytes break a session', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (data) => {
      const { device, say } = await create()
      device.queue.push(data)
      device.notifyReadable()
      device.queue.push(bytes('\n"\n'))
      device.notifyReadable()
      device.take()
      await say('')
      for (let i = 0; i < 3; i++) await say('\n"}]}]\n')
      t.truthy((await say('{"execute":"qmp_capabilities"}'))[0])
    }),
    { numRuns: 50 },
  )
})

test('options for QMP are those of QEMU', (t) => {
  const monitors = (...argv: string[]): CharUser[] => {
    const parsed = parseCommand(['-nographic', ...argv])
    return parsed.kind === 'run' ? parsed.settings.monitors : []
  }
  t.like(monitors('-qmp', 'unix:/x,server=on,wait=off'), [{ control: { pretty: false } }])
  t.like(monitors('-qmp-pretty', 'stdio'), [{ control: { pretty: true } }])
  const chardev = ['-chardev', 'socket,id=c,path=/x,server=on,wait=off'] as const
  t.like(monitors(...chardev, '-mon', 'c,mode=control'), [{ control: { pretty: false } }])
  t.is(monitors(...chardev, '-mon', 'c')[0]?.control, undefined)
  t.throws(() => monitors(...chardev, '-mon', 'c,pretty=on'), {
    message: /not compatible with HMP/,
  })
  t.throws(() => monitors(...chardev, '-mon', 'c,mode=x'), { message: /unsupported monitor mode/ })
})

test('the balloon: commands, properties and the event, which comes once a second', async (t) => {
  const { machine, say } = await negotiated()
  const run = async (execute: string, args?: object): Promise<unknown> =>
    (await say(JSON.stringify({ execute, arguments: args })))[0]
  const none = new VmmError('E_NO_BALLOON', 'No balloon device has been activated')
  machine.answers = { balloon: none, setBalloon: none }
  const inactive = failure('No balloon device has been activated', 'DeviceNotActive')
  t.deepEqual(await run('query-balloon'), inactive)
  t.deepEqual(await run('balloon', { value: 1 << 20 }), inactive)
  machine.answers = { balloon: 5 << 20, setBalloon: undefined }
  t.deepEqual(await run('balloon', { value: 0 }), failure("Parameter 'target' expects a size"))
  t.deepEqual(await run('query-balloon'), { return: { actual: 5 << 20 } })
  t.deepEqual(await run('balloon', { value: 3 << 20 }), { return: {} })
  t.is(machine.calls.at(-1), 'setBalloon 3145728')
  const human = monitorOf(machine)
  t.is(await human('info balloon'), 'balloon: actual=5\n')
  t.is(await human('balloon 3'), '')
  t.is(machine.calls.at(-1), 'setBalloon 3145728')
  t.regex(await human('balloon x'), /a number of MiB expected/)
  const at = { path: '/machine/peripheral/r' }
  const value = { stats: { 'stat-free-memory': 2n ** 64n - 1n }, 'last-update': 0 }
  machine.answers = {
    properties: [
      { name: 'guest-stats', type: 'guest statistics', value },
      { name: 'guest-stats-polling-interval', type: 'int', value: 0 },
    ],
  }
  t.deepEqual(await run('qom-get', { ...at, property: 'guest-stats-polling-interval' }), {
    return: 0,
  })
  const [stats] = await say(
    JSON.stringify({ execute: 'qom-get', arguments: { ...at, property: 'guest-stats' } }),
  )
  t.deepEqual(stats, { return: { stats: { 'stat-free-memory': 2 ** 64 }, 'last-update': 0 } })
  const set = { ...at, property: 'guest-stats-polling-interval', value: 5 }
  t.deepEqual(await run('qom-set', set), { return: {} })
  t.is(machine.calls.at(-1), 'setProperty "/machine/peripheral/r" "guest-stats-polling-interval" 5')
  t.deepEqual(
    await run('qom-set', { ...set, property: 'nope' }),
    failure("Property 'virtio-rng-pci.nope' not found"),
  )
  for (let i = 1; i < 100; i++) machine.emitter.emit('balloon-change', { actual: i })
  t.like(await say(''), [{ event: 'BALLOON_CHANGE', data: { actual: 1 } }])
  await new Promise((resolve) => setTimeout(resolve, 1100))
  t.like(await say(''), [{ event: 'BALLOON_CHANGE', data: { actual: 99 } }])
})

test('numbers of 64 bits are written as such', (t) => {
  const value = { a: [1, 2n ** 64n - 1n, 'x', null, undefined], b: {}, c: { d: true } }
  t.is(formatJson(value), '{"a":[1,18446744073709551615,"x",null,null],"b":{},"c":{"d":true}}')
  const plain = { a: [1, 'x', { y: [] }], b: {}, c: { d: true } }
  t.is(formatJson({ ...plain, e: 1n }, 4), JSON.stringify({ ...plain, e: 1 }, undefined, 4))
})
