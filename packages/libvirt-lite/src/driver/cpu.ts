import type { Machine } from './machine.ts'
import type { DomainDefinition } from './model.ts'

/** The model that others are described by: it is the same on every host. */
const BASE = 'qemu64'

interface Expansion {
  model: { props?: Readonly<Record<string, unknown>> }
}

/**
 * What a processor as of the host has come to, in a description that is the same elsewhere: a model and the features that
 * differ from it. A definition that asks for something else is returned as it is.
 */
export async function expandCpu(
  machine: Machine,
  definition: DomainDefinition,
): Promise<DomainDefinition> {
  const { cpu, type } = definition
  if (cpu?.mode !== 'host-model') return definition
  const features = async (name: string): Promise<Readonly<Record<string, unknown>>> => {
    const model = { type: 'static', model: { name } }
    const answer = (await machine.execute('query-cpu-model-expansion', model)) as Expansion
    return answer.model.props ?? {}
  }
  try {
    const [host, base] = [await features(type === 'kvm' ? 'host' : 'max'), await features(BASE)]
    const given = new Map((cpu.features ?? []).map(({ name, policy }) => [name, policy]))
    const differ = Object.keys(host).flatMap((name) => {
      const policy = given.get(name)
      const isOn =
        policy === undefined ? host[name] === true : policy !== 'disable' && policy !== 'forbid'
      if (typeof host[name] !== 'boolean' || isOn === (base[name] === true)) return []
      return [{ policy: isOn ? ('require' as const) : ('disable' as const), name }]
    })
    const { topology } = cpu
    return {
      ...definition,
      cpu: {
        mode: 'custom',
        match: 'exact',
        check: 'full',
        model: { fallback: 'forbid', value: BASE },
        ...(topology === undefined ? {} : { topology }),
        features: differ,
      },
    }
  } catch {
    // An emulator that cannot tell has what was asked for all the same.
    return definition
  }
}
