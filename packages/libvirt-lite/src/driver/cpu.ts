import { featureName, featureProperty } from '../domain/index.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainDefinition } from './model.ts'

/** The model that others are described by: it is the same on every host. */
export const BASE = 'qemu64'

/** What libvirt takes {@link BASE} for, by its own names; what an emulator has beside or without it, it lists. */
const BASE_FEATURES = new Set(
  (
    'apic clflush cmov cx16 cx8 de fpu fxsr lm mca mce mmx msr mtrr nx pae pat pge pni pse pse36 sep sse sse2 svm ' +
    'syscall tsc'
  ).split(' '),
)

/** What answers commands. */
export interface Monitor {
  execute(command: string, args?: object): Promise<unknown>
}

interface Expansion {
  model: { props?: Readonly<Record<string, unknown>> }
}

/**
 * What a processor as of the host has come to, in a description that is the same elsewhere: a model and the features that
 * differ from it. A definition that asks for something else is returned as it is.
 */
export async function expandCpu(
  machine: Monitor,
  definition: DomainDefinition,
): Promise<DomainDefinition> {
  const { cpu, type } = definition
  if (cpu?.mode !== 'host-model') return definition
  try {
    const features = await hostModelFeatures(machine, type, cpu.features)
    const { topology } = cpu
    return {
      ...definition,
      cpu: {
        mode: 'custom',
        match: 'exact',
        check: 'full',
        model: { fallback: 'forbid', value: BASE },
        ...(topology === undefined ? {} : { topology }),
        features,
      },
    }
  } catch {
    // An emulator that cannot tell has what was asked for all the same.
    return definition
  }
}

type Cpu = NonNullable<DomainDefinition['cpu']>
type Features = NonNullable<Cpu['features']>

/** What a processor as of the host has beside {@link BASE} or without it. Rejects as the monitor does */
export async function hostModelFeatures(
  monitor: Monitor,
  type: string,
  asked: Features = [],
): Promise<Features> {
  const host = await featuresOf(monitor, mostModel(type))
  const base = await featuresOf(monitor, BASE)
  const given = new Map(asked.map(({ name, policy }) => [featureProperty(name), policy]))
  return Object.keys(host).flatMap((name) => {
    const policy = given.get(name)
    const isOn =
      policy === undefined ? host[name] === true : policy !== 'disable' && policy !== 'forbid'
    if (typeof host[name] !== 'boolean' || isOn === (base[name] === true)) return []
    return [{ policy: isOn ? ('require' as const) : ('disable' as const), name: featureName(name) }]
  })
}

/**
 * The processor that a domain runs with as libvirt shows it: with each feature that the emulator has added to the model or
 * left out. Undefined for models that nothing is known of.
 */
async function shownCpu(
  machine: Monitor,
  { cpu, type }: DomainDefinition,
): Promise<DomainDefinition['cpu']> {
  if (cpu?.mode !== 'custom' || cpu.model?.value !== BASE) return undefined
  const given = cpu.features ?? []
  try {
    const has = await featuresWith(machine, type, given)
    const features = given.map(({ name, policy }) => {
      const isOn = has[featureProperty(name)] === true
      if (isOn) return { policy: 'require' as const, name }
      return { policy: policy === 'forbid' ? policy : ('disable' as const), name }
    })
    const known = new Set(given.map(({ name }) => featureName(featureProperty(name))))
    const on = new Set(
      Object.keys(has)
        .filter((name) => has[name] === true)
        .map(featureName),
    )
    const differ = [...new Set([...on, ...BASE_FEATURES])].filter(
      (name) => on.has(name) !== BASE_FEATURES.has(name) && !known.has(name),
    )
    const more = differ
      .toSorted()
      .map((name) => ({ policy: on.has(name) ? ('require' as const) : ('disable' as const), name }))
    return { ...cpu, check: 'full', features: [...features, ...more] }
  } catch {
    // An emulator that cannot tell has what was asked for all the same.
    return undefined
  }
}

/** The features of {@link BASE} with some changed. */
async function featuresWith(
  monitor: Monitor,
  type: string,
  given: Features,
): Promise<Record<string, unknown>> {
  const has = await featuresOf(monitor, BASE)
  if (given.length === 0) return has
  // QEMU leaves out what is not here, and does not say so of a model.
  const most = await featuresOf(monitor, mostModel(type))
  for (const { name, policy } of given) {
    const property = featureProperty(name)
    has[property] = policy !== 'disable' && policy !== 'forbid' && most[property] === true
  }
  return has
}

/** As libvirt shows the processor of a running domain: the model that it has is no other one. */
export function withoutFallback(definition: DomainDefinition): DomainDefinition {
  const { cpu } = definition
  if (cpu?.mode !== 'custom' || cpu.model === undefined) return definition
  return { ...definition, cpu: { ...cpu, model: { ...cpu.model, fallback: 'forbid' } } }
}

/** The processor with all that there is. */
const mostModel = (type: string): string => (type === 'kvm' ? 'host' : 'max')

/**
 * Compares the processor that runs with one whose definition wants it exactly so (`check='full'`).
 *
 * @throws VirtError when it has other features
 */
function checkCpu(cpu: Cpu, shown: DomainDefinition['cpu']): void {
  if (shown === undefined) return
  const asked = new Map(
    (cpu.features ?? []).map(({ name, policy }) => [
      name,
      policy !== 'disable' && policy !== 'forbid',
    ]),
  )
  const named = (isOn: boolean): string[] =>
    (shown.features ?? [])
      .filter(({ name, policy }) => {
        const is = policy === 'require'
        return is === isOn && is !== (asked.get(name) ?? BASE_FEATURES.has(name))
      })
      .map(({ name }) => name)
  const lists = [
    ['extra features', named(true)],
    ['missing features', named(false)],
  ] as const
  const told = lists.filter(([, names]) => names.length > 0)
  if (told.length === 0) return
  const text = told.map(([what, names]) => `${what}: ${names.join(',')}`).join(', ')
  throw new VirtError(
    ErrorCode.OPERATION_FAILED,
    `operation failed: guest CPU doesn't match specification: ${text}`,
  )
}

/** What a model of the emulator has, by the emulator's names. Rejects as the monitor does */
export async function featuresOf(machine: Monitor, name: string): Promise<Record<string, unknown>> {
  const model = { type: 'static', model: { name } }
  const answer = (await machine.execute('query-cpu-model-expansion', model)) as Expansion
  return { ...answer.model.props }
}

/** The processor that a domain runs with, as it is shown: asked for once, when somebody wants to see it. */
export class ShownCpu {
  #asked: Promise<DomainDefinition['cpu']> | undefined
  /** Undefined as long as it was not asked for, or when there is no more to show than what the definition has. */
  known: DomainDefinition['cpu']

  async ask(machine: Monitor, definition: DomainDefinition): Promise<DomainDefinition['cpu']> {
    const asking = (this.#asked ??= shownCpu(machine, definition))
    const cpu = await asking
    // Of a run that has ended meanwhile nothing is wanted.
    if (this.#asked === asking) this.known = cpu
    return cpu
  }

  /** Compares it with one that is wanted exactly so. Rejects with `VirtError` when it has other features */
  async check(
    machine: Monitor,
    asked: DomainDefinition['cpu'],
    definition: DomainDefinition,
  ): Promise<void> {
    if (asked?.check === 'full') checkCpu(asked, await this.ask(machine, definition))
  }

  /** Another run may have another one. */
  forget(): void {
    this.#asked = undefined
    this.known = undefined
  }
}

/** What an emulator tells of processors. */
export interface CpuFacts {
  /** Of one as of the host, beside {@link BASE} or without it. */
  hostModel: Features
  /** Models, by whether they need nothing that is not here; of others it is not known. */
  usable: ReadonlyMap<string, boolean>
  /** Features that a guest can have here, as the emulator calls them. */
  features: ReadonlySet<string>
}

/** Rejects as the monitor does. */
export async function askCpus(monitor: Monitor, type: string): Promise<CpuFacts> {
  const models = (await monitor.execute('query-cpu-definitions')) as {
    name: string
    'unavailable-features'?: readonly string[]
  }[]
  const usable = models.flatMap(({ name, 'unavailable-features': lacks }) =>
    lacks === undefined ? [] : [[name, lacks.length === 0] as const],
  )
  const most = await featuresOf(monitor, mostModel(type))
  return {
    hostModel: await hostModelFeatures(monitor, type),
    usable: new Map(usable),
    features: new Set(Object.keys(most).filter((name) => most[name] === true)),
  }
}
