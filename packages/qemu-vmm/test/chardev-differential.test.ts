// Character devices that come and go: the same commands to our process and to QEMU 7.2's.
import { mkdirSync } from 'node:fs'
import test from 'ava'

import { temporary } from './support/disks.ts'
import { runOurs, runTheirs } from './support/qmp-machines.ts'
import type { Command } from './support/qmp-machines.ts'
import { hasPeer } from './support/qtest.ts'

const compare = hasPeer ? test.serial : test.serial.skip

function call(execute: string, args?: Record<string, unknown>): Command {
  return args === undefined ? { execute } : { execute, arguments: args }
}

const human = (line: string): Command => call('human-monitor-command', { 'command-line': line })
const backend = (type: string, data: object = {}): object => ({ type, data })
const add = (id: string, of: object): Command => call('chardev-add', { id, backend: of })
const change = (id: string, of: object): Command => call('chardev-change', { id, backend: of })
const unix = (path: string, more: object = {}, kind: object = {}): object =>
  backend('socket', { addr: { type: 'unix', data: { path, ...kind } }, ...more })
const inet = (port: number, more: object = {}): object => ({
  type: 'inet',
  data: { host: '127.0.0.1', port: String(port), ...more },
})
const tcp = (port: number, more: object = {}): object =>
  backend('socket', { addr: inet(port), ...more })
const ring = (what: 'read' | 'write', args: object): Command =>
  call(`ringbuf-${what}`, args as Record<string, unknown>)

const ABSTRACT = `char-differential-${process.pid}`

const COMMANDS: readonly Command[] = [
  call('query-chardev'),
  add('n1', backend('null')),
  add('n1', backend('null')),
  add('p', backend('pty')),
  add('f', backend('file', { out: 'out' })),
  add('f2', backend('file', { out: '/nowhere/out' })),
  add('f3', backend('file')),
  add('f3', backend('file', { out: 3 })),
  add('r', backend('ringbuf', { size: 1024 })),
  add('r2', backend('ringbuf')),
  add('s', unix('sock', { wait: false })),
  add('s2', unix('nosock', { server: false })),
  add('s3', unix('nosock', { server: false, wait: false })),
  add('s4', unix('sock', { reconnect: 1 })),
  add('t1', tcp(0, { wait: false })),
  add('t2', tcp(0, { wait: false, telnet: true, nodelay: true })),
  add('t3', tcp(1, { server: false })),
  add('t4', tcp(1, { server: false, reconnect: 60 })),
  add('t5', tcp(1, { server: false, reconnect: 60, telnet: true })),
  add('t6', tcp(1, { server: false, wait: false })),
  add('t7', tcp(0, { reconnect: 1 })),
  add('t8', backend('socket', { addr: { type: 'inet', data: { host: '127.0.0.1' } } })),
  add('t9', backend('socket', { addr: { type: 'inet', data: { host: 'h', port: 1 } } })),
  add('t10', backend('socket', { addr: { type: 'nope', data: {} } })),
  add('t11', backend('socket', { addr: inet(0, { ipv4: false, ipv6: false }), wait: false })),
  add('t12', backend('socket', { addr: inet(0, { ipv4: true, to: 65535 }), wait: false })),
  add('a1', unix(ABSTRACT, { wait: false }, { abstract: true, tight: false })),
  add(
    'a2',
    unix(`${ABSTRACT}-none`, { server: false, reconnect: 60 }, { abstract: true, tight: false }),
  ),
  add('u1', backend('udp', { remote: inet(9) })),
  add('u2', backend('udp', { remote: inet(9), local: inet(0) })),
  add('u3', backend('udp', {})),
  add('q1', backend('pipe', { device: 'nopipe' })),
  add('q2', backend('pipe', {})),
  add('x', backend('nope')),
  add('x', { type: 'null' }),
  add('x', {}),
  call('chardev-add', { id: 'x' }),
  call('chardev-add'),
  call('query-chardev'),
  call('chardev-remove', { id: 'nope' }),
  call('chardev-remove', { id: 'n1' }),
  call('chardev-remove', { id: 'com' }),
  call('chardev-remove', { id: 'mx' }),
  call('chardev-send-break', { id: 'nope' }),
  call('chardev-send-break', { id: 'com' }),
  call('chardev-send-break', { id: 'p' }),
  change('com', backend('ringbuf')),
  change('com', backend('file', { out: '/nowhere/x' })),
  change('p', backend('null')),
  change('nope', backend('null')),
  change('mx', backend('null')),
  change('mon', backend('null')),
  call('query-chardev'),
  ring('write', { device: 'r', data: 'hello' }),
  ring('read', { device: 'r', size: 10 }),
  ring('write', { device: 'nope', data: 'x' }),
  ring('write', { device: 'p', data: 'x' }),
  ring('write', { device: 'r', data: 'aGVsbG8=', format: 'base64' }),
  ring('read', { device: 'r', size: 10, format: 'base64' }),
  ring('read', { device: 'r', size: 0 }),
  ring('read', { device: 'com', size: 5 }),
  ring('read', { device: 'r', size: 5, format: 'zz' }),
  human('chardev-add null,id=h'),
  human('chardev-remove h'),
  human('chardev-remove h'),
  human('chardev-change r2 null'),
  human('chardev-send-break r2'),
  call('query-chardev'),
  call('query-iothreads'),
  call('query-memory-devices'),
  call('query-hotpluggable-cpus'),
  call('query-cpus-fast'),
]

/** An answer without what is another in each process; lists of devices are in no order. */
function plain(value: unknown): unknown {
  if (typeof value === 'string') {
    return value.replace(/\/dev\/pts\/\d+/, '/dev/pts/N').replace(/(:127\.0\.0\.1:)\d{4,5}/, '$1N')
  }
  if (Array.isArray(value)) {
    const entries = value.map(plain).filter((entry) => !isOwn(entry))
    return entries.toSorted((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1))
  }
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value)
    .filter(([name]) => name !== 'thread-id' || 'core-id' in value)
    .map(([name, member]) => [name, name === 'qom-path' ? '' : plain(member)])
  return Object.fromEntries(entries)
}

/** The monitor that the test talks to, which is at another place in each. */
function isOwn(entry: unknown): boolean {
  return (entry as { label?: string }).label === 'compat_monitor0'
}

compare('character devices come and go with the answers of QEMU', async (t) => {
  t.timeout(120_000)
  const folder = temporary(t)
  const com = ['-chardev', 'null,id=com', '-serial', 'chardev:com']
  const shared = ['-chardev', 'null,id=mx,mux=on', '-mon', 'chardev=mx']
  const monitor = ['-chardev', 'null,id=mon', '-mon', 'chardev=mon']
  const args = ['-M', 'pc', '-nodefaults', '-smp', '2,maxcpus=4', ...com, ...shared, ...monitor]
  for (const name of ['ours', 'theirs']) mkdirSync(folder(name))
  const ours = await runOurs(folder('ours'), args, COMMANDS)
  const theirs = await runTheirs(folder('theirs'), args, COMMANDS)
  for (const [i, command] of COMMANDS.entries()) {
    t.deepEqual(plain(ours[i]), plain(theirs[i]), JSON.stringify(command))
  }
})
