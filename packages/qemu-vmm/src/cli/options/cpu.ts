import { open } from 'kvm-core'

import { CliError } from '../cli-error.ts'
import { parseBool, parseKeyval } from '../keyval.ts'
import { choice } from '../option.ts'
import type { OptionGroup } from '../option.ts'
import { CPU_MODELS } from '../cpu-models.ts'
import type { CpuConfig } from '../../machine/config.ts'

export const cpu: OptionGroup = {
  title: 'Processor',
  options: [
    {
      name: 'cpu',
      argument: 'model[,+feature][,-feature][,feature=on|off]',
      help: ["processor model and changes to it ('-cpu help' lists both; default: qemu64)"],
      apply(settings, value) {
        if (value === 'help' || value === '?') return list()
        settings.cpu = parseCpu(value)
        return undefined
      },
    },
  ],
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
  for (const item of items) {
    if (item.startsWith('+')) plus.push(item.slice(1))
    else if (item.startsWith('-')) minus.push(item.slice(1))
    else {
      for (const { key, value } of parseKeyval(item)) {
        features[featureName(key)] = parseBool(value, key)
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
