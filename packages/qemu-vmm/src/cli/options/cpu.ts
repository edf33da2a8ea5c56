import { open } from 'kvm-core'

import { CliError } from '../cli-error.ts'
import { parseBool, parseKeyval } from '../keyval.ts'
import { choice, isHelp, keyvalOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'
import { CPU_MODELS } from '../cpu-models.ts'
import { VmmError } from '../../errors.ts'
import type { CpuConfig } from '../../machine/config.ts'
import { resolveTopology } from '../../machine/topology.ts'
import type { SmpConfig } from '../../machine/topology.ts'

export const cpu: OptionGroup = {
  title: 'Processor',
  options: [
    {
      name: 'cpu',
      argument: 'model[,+feature][,-feature][,feature=on|off]',
      help: ["processor model and changes to it ('-cpu help' lists both; default: qemu64)"],
      apply(settings, value) {
        if (isHelp(value)) return list()
        settings.cpu = parseCpu(value)
        return undefined
      },
    },
    keyvalOption({
      name: 'smp',
      argument: '[cpus=]n[,sockets=n][,dies=n][,cores=n][,threads=n][,maxcpus=n]',
      implied: 'cpus',
      help: [
        'how many processors, and how they are arranged (default: 1); what is not given is worked',
        'out: cores before sockets, and sockets before threads',
      ],
      keys: [
        { name: 'cpus', value: 'n', help: 'processors, at most 255 (default: maxcpus)' },
        { name: 'sockets', value: 'n', help: 'sockets of the machine' },
        { name: 'dies', value: 'n', help: 'dies in a socket (default: 1)' },
        { name: 'cores', value: 'n', help: 'cores in a die' },
        { name: 'threads', value: 'n', help: 'threads in a core' },
        {
          name: 'maxcpus',
          value: 'n',
          help: 'places for processors, the product of the others; more than cpus are filled by device_add',
        },
      ],
      refused: { clusters: "clusters not supported by this machine's CPU topology" },
      list: () => ['smp-opts options:', ...SMP_KEYS.map((key) => `  ${key}=<num>`)].join('\n'),
      take(settings, values) {
        settings.smp = parseSmp(values)
      },
    }),
  ],
}

const SMP_KEYS = ['cores', 'cpus', 'dies', 'maxcpus', 'sockets', 'threads'] as const

function parseSmp(values: ReadonlyMap<string, string>): SmpConfig {
  const smp: SmpConfig = {}
  for (const key of SMP_KEYS) {
    const text = values.get(key)
    if (text === undefined) continue
    if (!/^[+-]?(0x[0-9a-f]+|[0-9]+)$/i.test(text)) {
      throw new CliError(`Parameter 'smp.${key}' expects integer, not '${text}'`)
    }
    smp[key] = text.startsWith('-') ? -Number(text.slice(1)) : Number(text.replace('+', ''))
  }
  try {
    resolveTopology(smp, 'pc-i440fx-7.2')
  } catch (error) {
    throw error instanceof VmmError ? new CliError(error.message) : error
  }
  return smp
}

/**
 * `+feature` and `-feature` count after all `feature=`, wherever they stand, and a `-` counts
 * after a `+`: so a feature that is named twice ends up the way QEMU has it.
 */
function parseCpu(text: string): CpuConfig {
  const [model = '', ...items] = text.split(',')
  const plus: string[] = []
  const minus: string[] = []
  const features: Record<string, boolean> = {}
  const properties: Pick<CpuConfig, 'vendor' | 'physBits'> = {}
  for (const item of items) {
    if (item.startsWith('+')) plus.push(item.slice(1))
    else if (item.startsWith('-')) minus.push(item.slice(1))
    else {
      for (const { key, value } of parseKeyval(item)) {
        if (!takeProperty(properties, features, featureName(key), value)) {
          features[featureName(key)] = parseBool(value, key)
        }
      }
    }
  }
  for (const name of plus) features[featureName(name)] = true
  for (const name of minus) features[featureName(name)] = false
  return {
    model: choice(
      model,
      CPU_MODELS.map((entry) => entry.name),
      'unable to find CPU model',
    ),
    features,
    ...properties,
  }
}

/** Takes a property that is no feature bit; false for one that may be. */
function takeProperty(
  properties: Pick<CpuConfig, 'vendor' | 'physBits'>,
  features: Record<string, boolean>,
  key: string,
  value: string,
): boolean {
  if (key.startsWith('hv-')) throw new CliError(`'${key}': Hyper-V's interfaces are not here yet`)
  switch (key) {
    case 'vendor':
      if (value.length !== 12) {
        throw new CliError(`Property '.vendor' doesn't take value '${value}'`)
      }
      properties.vendor = value
      return true
    case 'phys-bits':
      if (!/^\d{1,3}$/.test(value)) {
        throw new CliError(`Parameter 'phys-bits' expects uint32, not '${value}'`)
      }
      // 0 is the model's own width.
      if (Number(value) !== 0) properties.physBits = Number(value)
      return true
    case 'host-phys-bits':
      if (parseBool(value, key)) properties.physBits = 'host'
      return true
    case 'migratable':
      // A clock that another host cannot go on with is what stands in the way.
      if (parseBool(value, key)) features['invtsc'] ??= false
      return true
    default:
      return false
  }
}

/** Underscores and dashes mean the same: `sse4_1` is `sse4-1`. */
function featureName(text: string): string {
  if (!/^[a-z0-9][a-z0-9._-]*$/i.test(text)) {
    throw new CliError(`'${text}' is not the name of a processor feature`)
  }
  return text.replaceAll('_', '-')
}

/** As QEMU prints it: the models, then the names of all features, wrapped. */
function list(): string {
  const kvm = open({ engine: 'soft' })
  try {
    const lines = ['']
    for (const name of kvm.cpuFeatures) {
      const last = lines.at(-1) ?? ''
      if (last.length + name.length > 75) lines.push(`  ${name}`)
      else lines[lines.length - 1] = `${last === '' ? ' ' : last} ${name}`
    }
    return [
      'Available CPUs:',
      ...CPU_MODELS.map(({ name, help }) => `x86 ${name.padEnd(21)} ${help}`),
      '',
      'Recognized CPUID flags:',
      ...lines,
    ].join('\n')
  } finally {
    kvm.close()
  }
}
