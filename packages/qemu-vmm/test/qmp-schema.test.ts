// The schema of QMP: it is whole, it is what checks arguments, and answers are of the types that it tells.
import test from 'ava'
import * as fc from 'fast-check'

import { QMP_COMMANDS } from '../src/monitor/qmp/commands.ts'
import { QMP_EVENTS, eventsOf } from '../src/monitor/qmp/events.ts'
import { QmpError } from '../src/monitor/qmp/message.ts'
import { schemaOf } from '../src/monitor/qmp/schema.ts'
import { checkType, int, listOf, membersOf, oneOf, str, struct } from '../src/monitor/qmp/types.ts'
import type { QmpType } from '../src/monitor/qmp/types.ts'
import { negotiated } from './support/qmp-session.ts'

interface Entity {
  name: string
  'meta-type': string
  'arg-type'?: string
  'ret-type'?: string
  'element-type'?: string
  members?: { name?: string; type?: string }[]
  variants?: { case: string; type: string }[]
  tag?: string
}

const refused = (type: QmpType, value: unknown): string | undefined => {
  try {
    checkType(type, value, '')
    return undefined
  } catch (error) {
    if (error instanceof QmpError) return error.message
    throw error
  }
}

test('every type that the schema names is in it, once', (t) => {
  const schema = schemaOf(QMP_COMMANDS, QMP_EVENTS) as Entity[]
  const names = new Set(schema.map(({ name }) => name))
  t.is(names.size, schema.length)
  for (const entity of schema) {
    const used = [
      entity['arg-type'],
      entity['ret-type'],
      entity['element-type'],
      ...(entity.members ?? []).map(({ type }) => type),
      ...(entity.variants ?? []).map(({ type }) => type),
    ]
    for (const name of used)
      t.true(name === undefined || names.has(name), `${entity.name}: ${name}`)
    if (entity.tag !== undefined) {
      t.true(
        entity.members?.some(({ name }) => name === entity.tag),
        entity.name,
      )
    }
  }
  const kinds = (kind: string): string[] =>
    schema.filter((entity) => entity['meta-type'] === kind).map(({ name }) => name)
  t.deepEqual(
    kinds('command'),
    QMP_COMMANDS.map(({ name }) => name),
  )
  t.deepEqual(kinds('event'), Object.keys(QMP_EVENTS))
})

test('every query answers what its description says', async (t) => {
  const { say, machine } = await negotiated()
  // The engine that there is everywhere.
  machine.counters = { translations: 0 }
  machine.answers = { balloon: 1 << 20, pci: [] }
  const args: Readonly<Record<string, object[]>> = {
    'device-list-properties': [{ typename: 'virtio-blk-pci' }],
    'query-cpu-model-expansion': [
      { type: 'full', model: { name: 'qemu64' } },
      { type: 'static', model: { name: 'max', props: { migratable: true, sse2: false } } },
    ],
    'qom-list-types': [{}, { implements: 'device' }, { implements: 'cpu' }],
    'qom-list': [
      '/',
      '/machine',
      '/machine/peripheral',
      '/machine/peripheral-anon/device[0]',
      '/machine/peripheral/r',
      '/machine/unattached',
      '/machine/unattached/device[2]',
    ].map((path) => ({ path })),
    'qom-list-properties': [{ typename: 'rng-random' }, { typename: 'none-machine' }],
    'qom-get': [{ path: '/machine', property: 'type' }],
    'qom-set': [{ path: '/machine/peripheral/r', property: 'type', value: 1 }],
  }
  for (const { name, returns } of QMP_COMMANDS) {
    if (!/^query-|^qom-|-properties$/.test(name)) continue
    for (const given of args[name] ?? [{}]) {
      const [answer] = (await say(JSON.stringify({ execute: name, arguments: given }))) as [
        { return?: unknown; error?: unknown },
      ]
      t.is(answer.error, undefined, name)
      t.is(refused(returns ?? struct({}), answer.return), undefined, name)
    }
  }
})

test('every event tells what its description says', (t) => {
  const told = [
    ...eventsOf('stop', undefined),
    ...eventsOf('resume', undefined),
    ...eventsOf('powerdown', undefined),
    ...eventsOf('reset', { guest: false }),
    ...eventsOf('shutdown', { reason: 'guest-reset' }),
    ...eventsOf('guest-panicked', { action: 'pause' }),
    ...eventsOf('guest-crashloaded', undefined),
    ...eventsOf('device-deleted', { path: '/machine/peripheral/r', id: 'r' }),
    ...eventsOf('balloon-change', { actual: 1 }),
    ...eventsOf('rtc-change', { offset: -60 }),
    ...eventsOf('acpi-ost', { device: 'c', slot: 1, source: 3, status: 0 }),
    ...eventsOf('tray-moved', { device: '', id: 'cd', isOpen: true }),
  ]
  t.deepEqual(new Set(told.map(({ event }) => event)), new Set(Object.keys(QMP_EVENTS)))
  for (const { event, data } of told) {
    t.is(refused(QMP_EVENTS[event]!, data ?? {}), undefined, event)
  }
})

test('values of wrong types are refused with the words of QEMU', (t) => {
  const inner: QmpType = {
    meta: 'object',
    members: membersOf({ type: oneOf(['a', 'b']) }),
    tag: 'type',
    variants: { a: membersOf({ n: int }) },
  }
  const type = struct({
    'list?': listOf(inner),
    'either?': { meta: 'alternate', name: 'Either', of: [str, inner] },
  })
  for (const [value, message] of [
    [{ list: 3 }, "Invalid parameter type for 'list', expected: array"],
    [{ list: [3] }, "Invalid parameter type for 'list[0]', expected: object"],
    [{ list: [{}] }, "Parameter 'list[0].type' is missing"],
    [{ list: [{ type: 'c' }] }, "Parameter 'type' does not accept value 'c'"],
    [
      { list: [{ type: 'a', n: 1.5 }] },
      "Invalid parameter type for 'list[0].n', expected: integer",
    ],
    [{ list: [{ type: 'b', n: 1 }] }, "Parameter 'list[0].n' is unexpected"],
    [{ either: 3 }, "Invalid parameter type for 'either', expected: Either"],
    [{ either: 'x', list: [{ type: 'a', n: 1 }, { type: 'b' }] }, undefined],
    [{ toString: 1 }, "Parameter 'toString' is unexpected"],
  ] as const) {
    t.is(refused(type, value), message)
  }
})

test('no arguments make a command throw anything but an answer', async (t) => {
  const { say } = await negotiated()
  const commands = QMP_COMMANDS.map(({ name }) => name).filter((name) => name !== 'quit')
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...commands),
      fc.dictionary(
        fc.constantFrom('id', 'path', 'driver', 'model', 'keys', 'file', 'type', '__proto__'),
        fc.jsonValue(),
      ),
      async (execute, args) => {
        const [answer] = await say(JSON.stringify({ execute, arguments: args, id: 7 }))
        t.like(answer, { id: 7 })
      },
    ),
    { numRuns: 200 },
  )
})
