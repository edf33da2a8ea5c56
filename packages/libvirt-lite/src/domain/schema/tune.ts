import { element, flag, many, one, required, text } from './dsl.ts'
import * as s from './scalars.ts'
import type { ElementSpec } from './types.ts'

const limit = (name: string) =>
  one(element(name, 'a limit in KiB', { unit: s.str }, [], { text: s.big, typeName: 'MemorySize' }))

export const memtune: ElementSpec = element('memtune', 'limits of memory on the host', {}, [
  limit('hard_limit'),
  limit('soft_limit'),
  limit('min_guarantee'),
  limit('swap_hard_limit'),
])

const number = (name: string) => text(name, 'a limit', s.big)

export const blkiotune: ElementSpec = element('blkiotune', 'limits of disks on the host', {}, [
  text('weight', 'share of the disks', s.uint(10_000)),
  many(
    element('device', 'limits of one disk', {}, [
      text('path', 'the disk', s.path),
      text('weight', 'share of it', s.uint(10_000)),
      number('read_iops_sec'),
      number('write_iops_sec'),
      number('read_bytes_sec'),
      number('write_bytes_sec'),
    ]),
    'devices',
  ),
])

export const memoryBacking: ElementSpec = element(
  'memoryBacking',
  'what guest memory is made of',
  {},
  [
    one(
      element(
        'hugepages',
        'large pages',
        {},
        [
          many(
            element('page', 'pages of one size', {
              size: required(s.big),
              unit: s.str,
              nodeset: s.str,
            }),
            'pages',
          ),
        ],
        { keepEmpty: true },
      ),
    ),
    flag('nosharepages', 'pages are not merged'),
    flag('locked', 'pages stay in memory'),
    one(
      element('source', 'kind of memory', {
        type: required(s.oneOf('file', 'anonymous', 'memfd')),
      }),
    ),
    one(element('access', 'who sees it', { mode: required(s.oneOf('shared', 'private')) })),
    one(
      element('allocation', 'when it is taken', {
        mode: s.oneOf('immediate', 'ondemand'),
        threads: s.uint(),
      }),
    ),
    flag('discard', 'it is discarded at the end'),
  ],
)

export const vcpu: ElementSpec = element(
  'vcpu',
  'how many processors there can be, and are at the start',
  {
    placement: s.oneOf('static', 'auto'),
    cpuset: s.str,
    current: s.uint(0xffff_ffff, 1),
  },
  [],
  { text: s.uint(0xffff_ffff, 1), typeName: 'Vcpu' },
)

export const vcpus: ElementSpec = element('vcpus', 'each processor', {}, [
  many(
    element(
      'vcpu',
      'a processor',
      {
        id: required(s.uint()),
        enabled: required(s.yesNo),
        hotpluggable: s.yesNo,
        order: s.uint(0xffff_ffff, 1),
      },
      [],
      { typeName: 'VcpuState' },
    ),
    'vcpus',
  ),
])

const pool = { thread_pool_min: s.uint(), thread_pool_max: s.uint() }

export const iothreadids: ElementSpec = element('iothreadids', 'each I/O thread', {}, [
  many(
    element('iothread', 'a thread', { id: required(s.uint(0xffff_ffff, 1)), ...pool }),
    'iothreads',
  ),
])

export const defaultiothread: ElementSpec = element(
  'defaultiothread',
  'threads of the main loop',
  pool,
)

const schedule = { scheduler: required(s.oneOf('fifo', 'rr', 'batch', 'idle')), priority: s.uint() }

export const cputune: ElementSpec = element('cputune', 'where and how long processors run', {}, [
  text('shares', 'share of the host', s.big),
  ...['', 'global_', 'emulator_', 'iothread_'].flatMap((which) => [
    text(`${which}period`, 'microseconds', s.big),
    text(
      `${which}quota`,
      'microseconds of a period; -1 for all',
      s.int(-1, Number.MAX_SAFE_INTEGER),
    ),
  ]),
  many(
    element('vcpupin', 'processors of the host for one of the guest', {
      vcpu: required(s.uint()),
      cpuset: required(s.str),
    }),
    'vcpupins',
  ),
  one(
    element('emulatorpin', 'processors of the host for the emulator', { cpuset: required(s.str) }),
  ),
  many(
    element('iothreadpin', 'processors of the host for an I/O thread', {
      iothread: required(s.uint()),
      cpuset: required(s.str),
    }),
    'iothreadpins',
  ),
  many(
    element('vcpusched', 'how processors are scheduled', { vcpus: required(s.str), ...schedule }),
    'vcpuscheds',
  ),
  many(
    element('iothreadsched', 'how I/O threads are scheduled', {
      iothreads: required(s.str),
      ...schedule,
    }),
    'iothreadscheds',
  ),
  one(element('emulatorsched', 'how the emulator is scheduled', schedule)),
])

export const numatune: ElementSpec = element('numatune', 'nodes of the host for memory', {}, [
  one(
    element(
      'memory',
      'for all of it',
      {
        mode: s.oneOf('strict', 'preferred', 'interleave', 'restrictive'),
        nodeset: s.str,
        placement: s.oneOf('static', 'auto'),
      },
      [],
      { typeName: 'NumaTuneMemory' },
    ),
  ),
  many(
    element('memnode', 'for a node of the guest', {
      cellid: required(s.uint()),
      mode: s.oneOf('strict', 'preferred', 'interleave', 'restrictive'),
      nodeset: required(s.str),
    }),
    'memnodes',
  ),
])

export const maxMemory: ElementSpec = element(
  'maxMemory',
  'KiB that memory can grow to',
  { slots: s.uint(), unit: s.str },
  [],
  { text: s.big },
)

export const memory: ElementSpec = element(
  'memory',
  'KiB that the guest has at most',
  { dumpCore: s.onOff, unit: s.str },
  [],
  { text: s.big, typeName: 'Memory' },
)

export const currentMemory: ElementSpec = element(
  'currentMemory',
  'KiB that the guest has now',
  { unit: s.str },
  [],
  { text: s.big, typeName: 'MemorySize' },
)

export const resource: ElementSpec = element('resource', 'place among the control groups', {}, [
  text('partition', 'path of it', s.path),
  one(element('fibrechannel', 'identity on Fibre Channel', { appid: required(s.str) })),
])

export const idmap: ElementSpec = element(
  'idmap',
  'user ids of containers',
  {},
  ['uid', 'gid'].map((name) =>
    many(
      element(
        name,
        'a range',
        { start: required(s.uint()), target: required(s.uint()), count: required(s.uint()) },
        [],
        { typeName: 'IdRange' },
      ),
      `${name}s`,
    ),
  ),
)
