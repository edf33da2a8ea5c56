import { readFileSync, readdirSync } from 'node:fs'

import { MAX_CPUS } from '../../machine/topology.ts'
import { MACHINE_KINDS, MACHINE_TYPES } from '../../machine/machine-type.ts'
import type { MachineType } from '../../machine/config.ts'
import type { QmpCommand, QmpContext } from './command.ts'
import { cpuTypeName } from '../../devices/processor.ts'
import type { ProcessorInfo } from '../../machine/management.ts'
import { OSPM_STATUS, ospmStatus } from './events.ts'
import { QmpError } from './message.ts'
import { bool, int, listOf, oneOf, str, struct } from './types.ts'

const NOTHING = struct({})
const MIGRATION = struct({ capability: oneOf(['events']), state: bool })
const PLACE = struct({ 'socket-id': int, 'die-id?': int, 'core-id': int, 'thread-id': int })
/** The machine `none`. */
const EMPTY = {
  'hotpluggable-cpus': false,
  name: 'none',
  'numa-mem-supported': false,
  'cpu-max': 0,
  deprecated: false,
} as const
const TASKS = '/proc/self/task'

/** Commands that ask what the machine is made of. */
export const MACHINE_QUERIES: readonly QmpCommand[] = [
  {
    name: 'query-target',
    args: NOTHING,
    returns: struct({ arch: str }),
    run: () => ({ arch: 'x86_64' }),
  },
  {
    name: 'query-machines',
    args: NOTHING,
    returns: listOf(
      struct({
        name: str,
        'alias?': str,
        'is-default?': bool,
        'cpu-max': int,
        'hotpluggable-cpus': bool,
        'numa-mem-supported': bool,
        deprecated: bool,
        'default-cpu-type?': str,
        'default-ram-id?': str,
      }),
    ),
    run: () => [
      EMPTY,
      ...[...new Set(Object.values(MACHINE_KINDS))].map(({ name }) => describe(name)),
    ],
  },
  {
    name: 'query-memory-size-summary',
    args: NOTHING,
    returns: struct({ 'base-memory': int, 'plugged-memory?': int }),
    run: ({ facts }) => ({ 'base-memory': facts.memory, 'plugged-memory': 0 }),
  },
  {
    name: 'query-cpus-fast',
    args: NOTHING,
    returns: listOf(
      struct({
        'cpu-index': int,
        'qom-path': str,
        'thread-id': int,
        'props?': PLACE,
        target: oneOf(['x86_64']),
      }),
    ),
    run: async (context) => {
      const threads = cpuThreads()
      return (await processorsOf(context)).flatMap(({ index, apicId, address, path }) =>
        path === undefined
          ? []
          : [
              {
                'thread-id': threads.get(apicId) ?? process.pid,
                props: address,
                'qom-path': path,
                'cpu-index': index,
                target: 'x86_64',
              },
            ],
      )
    },
  },
  {
    name: 'query-hotpluggable-cpus',
    args: NOTHING,
    returns: listOf(struct({ type: str, 'vcpus-count': int, props: PLACE, 'qom-path?': str })),
    run: async (context) =>
      (await processorsOf(context)).toReversed().map(({ address, path, type }) => ({
        props: address,
        'vcpus-count': 1,
        ...(path === undefined ? {} : { 'qom-path': path }),
        type,
      })),
  },
  {
    name: 'query-acpi-ospm-status',
    args: NOTHING,
    returns: listOf(OSPM_STATUS),
    run: async ({ machine, facts }) => {
      if (facts.type === 'none') throw new QmpError('command is not supported, missing ACPI device')
      return (await machine.manage('ospmStatus')).map(ospmStatus)
    },
  },
  {
    name: 'query-migrate-capabilities',
    args: NOTHING,
    returns: listOf(MIGRATION),
    // Machines do not migrate, and nothing tells of it; programs that manage them ask for it all the same.
    run: ({ migration }) => [{ capability: 'events', state: migration.events }],
  },
  {
    name: 'migrate-set-capabilities',
    args: struct({ capabilities: listOf(MIGRATION) }),
    run({ migration }, { capabilities }) {
      for (const { state } of capabilities as readonly { state: boolean }[]) {
        migration.events = state
      }
    },
  },
  // There are no such things in this program: what is listed is what can be used.
  ...(
    ['query-iothreads', 'query-memory-devices', 'query-tpm-models', 'query-tpm-types'] as const
  ).map((name) => ({ name, args: NOTHING, returns: listOf(oneOf([])), run: () => [] })),
]

function describe(name: MachineType): object {
  const alias = MACHINE_TYPES.find(
    (other) => other !== name && MACHINE_KINDS[other] === MACHINE_KINDS[name],
  )
  return {
    'hotpluggable-cpus': true,
    name,
    'numa-mem-supported': false,
    'default-cpu-type': cpuTypeName('qemu64'),
    ...(alias === 'pc' ? { 'is-default': true } : {}),
    'cpu-max': MAX_CPUS,
    deprecated: false,
    'default-ram-id': 'pc.ram',
    ...(alias === undefined ? {} : { alias }),
  }
}

/** The places for processors. */
export async function processorsOf({
  machine,
  facts,
}: Pick<QmpContext, 'machine' | 'facts'>): Promise<ProcessorInfo[]> {
  return facts.type === 'none' ? [] : machine.manage('processors')
}

/** The threads that run the processors of this process, by APIC id. */
function cpuThreads(): Map<number, number> {
  const threads = new Map<number, number>()
  for (const task of listTasks()) {
    const index = /^kvm-vcpu-(\d+)$/.exec(nameOf(task))?.[1]
    if (index !== undefined) threads.set(Number(index), Number(task))
  }
  return threads
}

function listTasks(): string[] {
  try {
    return readdirSync(TASKS)
  } catch {
    return []
  }
}

/** Threads may end while they are listed. */
function nameOf(task: string): string {
  try {
    return readFileSync(`${TASKS}/${task}/comm`, 'utf8').trim()
  } catch {
    return ''
  }
}
