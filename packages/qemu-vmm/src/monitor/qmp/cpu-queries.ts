import { open } from 'kvm-core'
import type { CpuidEntry, Kvm } from 'kvm-core'

import { CPU_MODELS } from '../../cli/cpu-models.ts'
import { cpuTypeName } from '../../devices/processor.ts'
import type { QmpCommand, QmpContext } from './command.ts'
import { QmpError } from './message.ts'
import { isHostEngine } from './queries.ts'
import { any, bool, listOf, oneOf, str, struct } from './types.ts'

const MODEL = struct({ name: str, 'props?': any })
/** Those that are whatever the accelerator has. */
const OPEN_ENDED: readonly string[] = ['max', 'host']

/** Commands that ask for models of processors. */
export const CPU_QUERIES: readonly QmpCommand[] = [
  {
    name: 'query-cpu-definitions',
    args: struct({}),
    returns: listOf(
      struct({
        name: str,
        'migration-safe?': bool,
        static: bool,
        typename: str,
        deprecated: bool,
      }),
    ),
    run: () =>
      CPU_MODELS.map(({ name }) => ({
        name,
        typename: cpuTypeName(name),
        static: false,
        'migration-safe': !OPEN_ENDED.includes(name),
        deprecated: false,
      })),
  },
  {
    name: 'query-cpu-model-expansion',
    args: struct({ type: oneOf(['full', 'static']), model: MODEL }),
    returns: struct({ model: MODEL }),
    run: expand,
  },
]

async function expand(
  context: QmpContext,
  args: Readonly<Record<string, unknown>>,
): Promise<object> {
  const { name, props = {} } = args['model'] as { name: string; props?: unknown }
  if (!CPU_MODELS.some((model) => model.name === name)) {
    throw new QmpError(`The CPU model '${name}' is not a known CPU model`)
  }
  const isHost = await isHostEngine(context.machine)
  const kvm = open({ engine: isHost ? 'host' : 'soft' })
  try {
    const wanted = checkedProps(props, kvm)
    return {
      model: {
        // No model is static: what it has is told feature by feature, on top of none.
        name: args['type'] === 'static' ? 'base' : name,
        props: featuresOf(kvm, name, wanted),
      },
    }
  } finally {
    kvm.close()
  }
}

function checkedProps(props: unknown, kvm: Kvm): Record<string, boolean> {
  if (typeof props !== 'object' || props === null || Array.isArray(props)) {
    throw new QmpError("Invalid parameter type for 'model.props', expected: object")
  }
  const wanted: Record<string, boolean> = {}
  for (const [name, value] of Object.entries(props)) {
    // A clock that another host cannot go on with is what stands in the way.
    if (name === 'migratable' && value === true) wanted['invtsc'] ??= false
    else if (name !== 'migratable') {
      if (!kvm.cpuFeatures.includes(name)) {
        throw new QmpError(`Property 'x86_64-cpu.${name}' not found`)
      }
      if (typeof value !== 'boolean') {
        throw new QmpError(`Invalid parameter type for '${name}', expected: boolean`)
      }
      wanted[name] = value
    }
  }
  return wanted
}

/** A feature is on where switching it off changes something. */
function featuresOf(
  kvm: Kvm,
  model: string,
  wanted: Readonly<Record<string, boolean>>,
): Record<string, boolean> {
  const base = words(kvm.cpuidForModel(model, wanted))
  return Object.fromEntries(
    kvm.cpuFeatures.map((name) => {
      const off = words(kvm.cpuidForModel(model, { ...wanted, [name]: false }))
      return [name, off !== base]
    }),
  )
}

function words(cpuid: readonly CpuidEntry[]): string {
  return JSON.stringify(cpuid)
}
