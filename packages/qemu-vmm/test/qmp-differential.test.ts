// The same commands to ours and to QEMU 7.2: errors word by word, and the shapes of answers.
import { spawnSync } from 'node:child_process'
import test from 'ava'

import { VmmError } from '../src/errors.ts'
import { negotiated } from './support/qmp-session.ts'
import { hasPeer } from './support/qtest.ts'

const compare = hasPeer ? test : test.skip

interface Answer {
  return?: unknown
  error?: { class: string; desc: string }
}

/** What QEMU answers to each. */
function theirs(commands: readonly string[]): Answer[] {
  const machine = ['-M', 'pc', '-S', '-nodefaults', '-display', 'none', '-m', '64', '-smp', '2']
  const { stdout } = spawnSync(
    'qemu-system-x86_64',
    [...machine, '-name', 'vm1', '-qmp', 'stdio'],
    {
      encoding: 'utf8',
      input: ['{"execute":"qmp_capabilities"}', ...commands, '{"execute":"quit"}'].join('\n'),
      timeout: 30_000,
    },
  )
  const answers = stdout
    .split('\n')
    .filter((line) => line.startsWith('{"return"') || line.startsWith('{"error"'))
  return answers.slice(1, -1).map((line) => JSON.parse(line) as Answer)
}

async function ours(commands: readonly string[]): Promise<Answer[]> {
  const { say, machine } = await negotiated()
  const none = new VmmError('E_NO_BALLOON', 'No balloon device has been activated')
  machine.answers = { balloon: none, setBalloon: none, pci: [] }
  machine.counters = { translations: 0 }
  const answers: Answer[] = []
  for (const command of commands) answers.push(...((await say(`${command}\n`)) as Answer[]))
  return answers
}

const call = (execute: string, args?: unknown): string =>
  JSON.stringify({ execute, ...(args === undefined ? {} : { arguments: args }) })

const noLimits = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 }

compare('what is wrong is said with the same words', async (t) => {
  const commands = [
    call('nope'),
    call('device_del'),
    call('device_del', { id: 3 }),
    call('query-status', { x: 1 }),
    call('stop', []),
    call('balloon', { value: 0 }),
    call('balloon', { value: 'x' }),
    call('balloon', { value: 1 << 20 }),
    call('query-balloon'),
    call('block_resize', { device: 'zz', size: 512 }),
    call('block_resize', { 'node-name': 'zz', size: 512 }),
    call('block_resize', { size: 512 }),
    call('block_resize', {}),
    call('block_set_io_throttle', { device: 'zz' }),
    call('block_set_io_throttle', { device: 'zz', ...noLimits }),
    call('block_set_io_throttle', { id: 'zz', ...noLimits }),
    call('block_set_io_throttle', noLimits),
    call('block_set_io_throttle', { id: 'zz', device: 'zz', ...noLimits }),
    call('qom-list', { path: '/nowhere' }),
    call('qom-get', { path: '/nowhere', property: 'x' }),
    call('qom-set', { path: '/nowhere', property: 'x', value: 1 }),
    call('qom-set', { path: '/machine', property: 'x' }),
    call('qom-get', { path: '/machine' }),
    call('device-list-properties', { typename: 'n' }),
    call('human-monitor-command'),
    call('human-monitor-command', { 'command-line': 1 }),
    call('device_add', { driver: 'nope-x86_64-cpu' }),
    call('object-add', { id: 'o' }),
    call('object-add', { 'qom-type': 'rng-builtin' }),
    call('blockdev-del', { 'node-name': 'n' }),
    call('blockdev-add', { 'node-name': 'n' }),
    call('send-key', { keys: {} }),
    call('send-key', { keys: [3] }),
    call('screendump'),
    call('query-blockstats', { 'query-nodes': 1 }),
    call('query-blockstats', { other: 1 }),
    '{"execute":3}',
    '{"exec":"x"}',
    '{}',
    '[1]',
    '{"execute":"stop","foo":1}',
  ]
  const [here, there] = [await ours(commands), theirs(commands)]
  t.is(there.length, commands.length)
  const told = (answers: readonly Answer[]): object =>
    Object.fromEntries(commands.map((command, i) => [command, answers[i]]))
  t.deepEqual(told(here), told(there))
})

/** Names with the kinds of their values; of arrays the first element counts. */
function shape(value: unknown): unknown {
  if (Array.isArray(value)) return value.length === 0 ? [] : [shape(value[0])]
  if (typeof value !== 'object' || value === null) return typeof value
  const entries = Object.entries(value).map(([key, member]) => [key, shape(member)] as const)
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)))
}

compare('answers have the same members', async (t) => {
  const names = [
    'query-version',
    'query-status',
    'query-name',
    'query-uuid',
    'query-kvm',
    'query-target',
    'query-memory-size-summary',
    'query-cpus-fast',
    'query-hotpluggable-cpus',
    'query-chardev',
    'query-iothreads',
    'query-memory-devices',
    'query-commands',
  ]
  const commands = names.map((name) => call(name))
  const [here, there] = [await ours(commands), theirs(commands)]
  for (const [i, name] of names.entries()) {
    t.deepEqual(shape(here[i]?.return), shape(there[i]?.return), name)
  }
  const paths = ({ return: list }: Answer): string[] =>
    (list as { 'qom-path': string }[]).map((cpu) => cpu['qom-path'])
  for (const name of ['query-cpus-fast', 'query-hotpluggable-cpus']) {
    const i = names.indexOf(name)
    t.deepEqual(paths(here[i]!), paths(there[i]!), name)
  }
  // And these the same values.
  for (const name of ['query-name', 'query-uuid', 'query-target', 'query-memory-size-summary']) {
    const i = names.indexOf(name)
    t.deepEqual(here[i], there[i], name)
  }
})
