import { element, flag, many, one, required, text } from './dsl.ts'
import * as s from './scalars.ts'
import type { ChildSpec, ElementSpec } from './types.ts'

const state = (name: string, doc: string): ChildSpec =>
  one(
    element(name, doc, { state: s.onOff }, [], {
      typeName: 'FeatureState',
      keepEmpty: true,
    }),
  )

const hyperv = element(
  'hyperv',
  'what Windows knows of its own hypervisor',
  { mode: s.oneOf('custom', 'passthrough') },
  [
    state('relaxed', 'no watchdog of the guest'),
    state('vapic', 'virtual APIC'),
    one(
      element('spinlocks', 'tries before it yields', {
        state: s.onOff,
        retries: s.uint(0xffff_ffff, 4095),
      }),
    ),
    state('vpindex', 'index of virtual processors'),
    state('runtime', 'time that processors have run'),
    state('synic', 'synthetic interrupt controller'),
    one(
      element('stimer', 'synthetic timers', { state: s.onOff }, [
        state('direct', 'without messages'),
      ]),
    ),
    state('reset', 'reset by a register'),
    one(
      element('vendor_id', 'name of the vendor', {
        state: s.onOff,
        value: s.pattern(/^[^,]{1,12}$/, 'at most 12 characters and no comma'),
      }),
    ),
    state('frequencies', 'registers of frequencies'),
    state('reenlightenment', 'news of migration'),
    state('tlbflush', 'flushing of other processors'),
    state('ipi', 'interrupts between processors'),
    state('evmcs', 'nested machines'),
    state('avic', 'interrupts by hardware'),
  ],
)

const kvm = element('kvm', 'what guests know of KVM', {}, [
  state('hidden', 'KVM is not told of'),
  state('hint-dedicated', 'processors are not shared'),
  state('poll-control', 'the guest says whether the host polls'),
  state('pv-ipi', 'interrupts between processors'),
  one(
    element('dirty-ring', 'a ring of dirty pages', { state: s.onOff, size: s.uint(65_536, 1024) }),
  ),
])

export const features: ElementSpec = element('features', 'features of the machine', {}, [
  flag('acpi', 'tables of ACPI'),
  one(element('apic', 'local interrupt controllers', { eoi: s.onOff }, [], { keepEmpty: true })),
  flag('pae', 'more than 4 GiB in 32-bit guests'),
  state('hap', 'nested paging'),
  flag('viridian', 'Hyper-V, on Xen'),
  flag('privnet', 'a network of its own, for containers'),
  one(hyperv),
  one(kvm),
  state('pvspinlock', 'spin locks that yield'),
  state('pmu', 'performance counters'),
  state('vmport', 'the port of VMware'),
  one(
    element('gic', 'interrupt controller, on Arm', { version: s.oneOf('2', '3', 'host') }, [], {
      keepEmpty: true,
    }),
  ),
  one(
    element(
      'smm',
      'system management mode',
      { state: s.onOff },
      [one(element('tseg', 'memory of it', { unit: s.str }, [], { text: s.big }))],
      { keepEmpty: true },
    ),
  ),
  one(element('ioapic', 'who has the I/O APIC', { driver: s.oneOf('kvm', 'qemu') })),
  one(
    element('hpt', 'page tables, on POWER', {
      resizing: s.oneOf('enabled', 'disabled', 'required'),
    }),
  ),
  state('htm', 'transactional memory, on POWER'),
  state('nested-hv', 'nested machines, on POWER'),
  state('vmcoreinfo', 'where a dump finds the kernel'),
  state('ccf-assist', 'count cache flush, on POWER'),
  one(element('cfpc', 'cache flush on privilege change, on POWER', { value: s.str })),
  one(element('sbbc', 'speculation barriers, on POWER', { value: s.str })),
  one(element('ibs', 'indirect branches, on POWER', { value: s.str })),
  one(
    element('msrs', 'registers that there are not', {
      unknown: required(s.oneOf('ignore', 'fault'), { as: 'policy' }),
    }),
  ),
  one(
    element('tcg', 'settings of the software engine', {}, [
      one(element('tb-cache', 'translated code', { unit: s.str }, [], { text: s.big })),
    ]),
  ),
  state('async-teardown', 'memory is freed in the background'),
])

const event = element('event', 'an event that is counted', {
  name: required(s.str),
  enabled: required(s.yesNo),
})

export const perf: ElementSpec = element('perf', 'events that are counted', {}, [
  many(event, 'events'),
])

export const pm: ElementSpec = element('pm', 'ways of sleeping', {}, [
  one(element('suspend-to-mem', 'S3', { enabled: required(s.yesNo) })),
  one(element('suspend-to-disk', 'S4', { enabled: required(s.yesNo) })),
])

const catchup = element('catchup', 'how lost ticks are caught up', {
  threshold: s.uint(),
  slew: s.uint(),
  limit: s.uint(),
})

export const clock: ElementSpec = element(
  'clock',
  'what the clock shows at the start, and timers',
  {
    offset: required(s.oneOf('utc', 'localtime', 'variable', 'timezone', 'absolute')),
    timezone: s.str,
    adjustment: s.pattern(/^(reset|-?\d+)$/, '"reset" or a number of seconds'),
    basis: s.oneOf('utc', 'localtime'),
    start: s.big,
  },
  [
    many(
      element(
        'timer',
        'a timer',
        {
          name: required(
            s.oneOf(
              'platform',
              'pit',
              'rtc',
              'hpet',
              'tsc',
              'kvmclock',
              'hypervclock',
              'armvtimer',
            ),
          ),
          present: s.yesNo,
          tickpolicy: s.oneOf('delay', 'catchup', 'merge', 'discard'),
          track: s.oneOf('boot', 'guest', 'wall', 'realtime'),
          frequency: s.big,
          mode: s.oneOf('auto', 'native', 'emulate', 'paravirt', 'smpsafe'),
        },
        [one(catchup)],
      ),
      'timers',
    ),
  ],
)

const numaCell = element(
  'cell',
  'a node',
  {
    id: s.uint(),
    cpus: s.str,
    memory: required(s.big),
    unit: s.str,
    memAccess: s.oneOf('shared', 'private'),
    discard: s.yesNo,
  },
  [
    one(
      element('distances', 'how far others are', {}, [
        many(
          element('sibling', 'one of them', {
            id: required(s.uint()),
            value: required(s.uint(255)),
          }),
          'siblings',
        ),
      ]),
    ),
    many(
      element(
        'cache',
        'a cache of the node',
        {
          level: required(s.uint()),
          associativity: required(s.oneOf('none', 'direct', 'full')),
          policy: required(s.oneOf('none', 'writeback', 'writethrough')),
        },
        [
          one(element('size', 'its size', { value: required(s.big), unit: s.str })),
          one(element('line', 'size of a line', { value: required(s.big), unit: s.str })),
        ],
      ),
      'caches',
    ),
  ],
)

const numa = element('numa', 'nodes of memory', {}, [
  many(numaCell, 'cells'),
  one(
    element('interconnects', 'speed between nodes', {}, [
      many(
        element('latency', 'a latency', {
          initiator: required(s.uint()),
          target: required(s.uint()),
          cache: s.uint(),
          type: s.oneOf('access', 'read', 'write'),
          value: s.big,
        }),
        'latencies',
      ),
      many(
        element('bandwidth', 'a bandwidth', {
          initiator: required(s.uint()),
          target: required(s.uint()),
          cache: s.uint(),
          type: s.oneOf('access', 'read', 'write'),
          value: s.big,
          unit: s.str,
        }),
        'bandwidths',
      ),
    ]),
  ),
])

export const cpu: ElementSpec = element(
  'cpu',
  'the processor that the guest sees',
  {
    mode: s.oneOf('custom', 'host-model', 'host-passthrough', 'maximum'),
    match: s.oneOf('minimum', 'exact', 'strict'),
    check: s.oneOf('none', 'partial', 'full'),
    migratable: s.onOff,
  },
  [
    one(
      element(
        'model',
        'a model',
        {
          fallback: s.oneOf('allow', 'forbid'),
          vendor_id: s.pattern(/^[^,]{12}$/, 'exactly 12 characters and no comma'),
        },
        [],
        { text: s.str, typeName: 'CpuModel' },
      ),
    ),
    text('vendor', 'the vendor that the host must have', s.str),
    one(
      element('topology', 'sockets, cores and threads', {
        sockets: required(s.uint(0xffff_ffff, 1)),
        dies: s.uint(0xffff_ffff, 1),
        cores: required(s.uint(0xffff_ffff, 1)),
        threads: required(s.uint(0xffff_ffff, 1)),
      }),
    ),
    one(
      element('cache', 'what the guest knows of caches', {
        level: s.uint(3, 1),
        mode: required(s.oneOf('emulate', 'passthrough', 'disable')),
      }),
    ),
    one(
      element('maxphysaddr', 'bits of addresses', {
        mode: required(s.oneOf('emulate', 'passthrough')),
        bits: s.uint(),
      }),
    ),
    many(
      element('feature', 'a feature that is set or cleared', {
        policy: s.oneOf('force', 'require', 'optional', 'disable', 'forbid'),
        name: required(s.str),
      }),
      'features',
    ),
    one(numa),
  ],
  { typeName: 'Cpu' },
)
