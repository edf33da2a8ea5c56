import { existsSync } from 'node:fs'

import { packageVersion } from '../../cli/version.ts'
import { deviceTypes } from '../../devices/registry.ts'
import { BLOCK_QUERIES } from './block-queries.ts'
import type { QmpCommand } from './command.ts'
import { QmpError } from './message.ts'

const NIL_UUID = '00000000-0000-0000-0000-000000000000'
const NUMBER = /^-?\d+$/

/** The version that guests and tools are told, and whose commands these are. */
export const QMP_VERSION: { qemu: object; package: string } = {
  qemu: { micro: 0, minor: 2, major: 7 },
  package: `qemu-vmm ${packageVersion()}`,
}

/** Commands that only ask. `query-commands` is with the list of all. */
export const QUERIES: readonly QmpCommand[] = [
  ...BLOCK_QUERIES,
  { name: 'query-version', args: {}, run: () => QMP_VERSION },
  {
    name: 'query-status',
    args: {},
    run: ({ machine: { status } }) => ({
      status,
      singlestep: false,
      running: status === 'running',
    }),
  },
  { name: 'query-name', args: {}, run: ({ name }) => (name === undefined ? {} : { name }) },
  { name: 'query-uuid', args: {}, run: ({ uuid }) => ({ UUID: uuid ?? NIL_UUID }) },
  {
    name: 'query-kvm',
    args: {},
    // Only the software engine translates.
    run: async ({ machine }) => ({
      enabled: !('translations' in (await machine.stats())),
      present: existsSync('/dev/kvm'),
    }),
  },
  {
    name: 'query-chardev',
    args: {},
    run: ({ chardevs }) =>
      chardevs().map(({ label, filename }) => ({ 'frontend-open': true, filename, label })),
  },
  {
    name: 'device-list-properties',
    args: { typename: { type: 'string' } },
    run: (_context, { typename }) => {
      const type = deviceTypes.find(({ name }) => name === typename)
      if (type === undefined) {
        throw new QmpError(`Device '${String(typename)}' not found`, 'DeviceNotFound')
      }
      return type.properties.map(({ name, type: kind, help, default: value }) => ({
        name,
        description: help,
        type: kind,
        ...(value === undefined ? {} : { 'default-value': plain(kind, value) }),
      }))
    },
  },
]

function plain(kind: string, value: string): string | number | boolean {
  if (kind === 'bool') return value === 'on'
  return NUMBER.test(value) ? Number(value) : value
}
