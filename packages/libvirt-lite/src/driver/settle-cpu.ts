import { featureProperty } from '../domain/index.ts'
import { cpusOf } from './emulator.ts'
import { factsOf } from './model.ts'
import type { DomainDefinition } from './model.ts'

/**
 * A definition whose processor has each feature or has not: those that it would have where they are there (`optional`) are
 * looked for in the emulator.
 */
export async function settleCpu(definition: DomainDefinition): Promise<DomainDefinition> {
  const { cpu, type } = definition
  const { emulator } = factsOf(definition)
  const isOpen = (cpu?.features ?? []).some(({ policy }) => policy === 'optional')
  if (!isOpen || cpu === undefined || emulator === undefined || type === 'hvf') return definition
  const facts = await cpusOf(emulator, type)
  if (facts === undefined) return definition
  const features = (cpu.features ?? []).map(({ name, policy }) => {
    if (policy !== 'optional') return { name, ...(policy === undefined ? {} : { policy }) }
    const has = facts.features.has(featureProperty(name))
    return { name, policy: has ? ('require' as const) : ('disable' as const) }
  })
  return { ...definition, cpu: { ...cpu, features } }
}
