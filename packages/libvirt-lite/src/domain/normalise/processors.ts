import { refusal, unsupported } from '../refuse.ts'
import { MOST_VCPUS, vcpuStates, withVcpus } from '../vcpus.ts'
import { normaliseCpuset } from './cpuset.ts'
import type { Cpu, DomainDefinition } from '../generated/model.ts'

/** Counts of processors and I/O threads, their places on the host, and the model of processor. */
export function normaliseProcessors(def: DomainDefinition): void {
  normaliseCounts(def)
  normalisePlaces(def)
  def.cpu = normaliseCpu(def.cpu, def)
  checkTopology(def)
}

function normaliseCounts(def: DomainDefinition): void {
  const given = def.vcpu ?? { value: 1 }
  if (given.value > MOST_VCPUS) {
    throw unsupported(`there can be at most ${MOST_VCPUS} processors`, {
      at: given,
      value: given.value,
    })
  }
  given.placement ??= 'static'
  if (given.current !== undefined && given.current > given.value) {
    throw unsupported(`there can be only ${given.value} processors`, {
      at: given,
      below: '/@current',
      value: given.current,
    })
  }
  if (given.current === given.value) delete given.current
  if (given.placement === 'auto' && def.numatune?.memory === undefined) {
    def.numatune = { ...def.numatune, memory: { mode: 'strict', placement: 'auto' } }
  }
  def.vcpu = given
  normaliseStates(def)
  const ids = def.iothreadids?.iothreads ?? []
  if (ids.length > 0) def.iothreads = Math.max(def.iothreads ?? 0, ids.length)
  if (def.iothreads === 0) delete def.iothreads
}

/** Processors that are told one by one: how many there are at the start follows from them. */
function normaliseStates(def: DomainDefinition): void {
  const { vcpus, vcpu } = def
  if (vcpus === undefined) return
  if ((vcpus.vcpus ?? []).length === 0) {
    delete def.vcpus
    return
  }
  const seen = new Set<number>()
  const orders = new Set<number>()
  for (const state of vcpus.vcpus ?? []) {
    const { id, enabled, order } = state
    const most = vcpu!.value
    if (id >= most) {
      throw refusal('is out of range of maximum vcpu count', {
        at: state,
        below: '/@id',
        value: id,
      })
    }
    if (seen.has(id)) throw refusal('is told of already', { at: state, below: '/@id', value: id })
    seen.add(id)
    if (id === 0 && !enabled) throw unsupported("vcpu 0 can't be offline", { at: state })
    if (id === 0 && state.hotpluggable === true) {
      throw unsupported("vcpu0 can't be hotpluggable", { at: state })
    }
    if (!enabled && state.hotpluggable === false) {
      throw unsupported(`vcpu '${id}' is both offline and not hotpluggable`, { at: state })
    }
    if (order === undefined) continue
    if (id === 0 && order !== 1) throw unsupported('vcpu0 must be enabled first', { at: state })
    if (!enabled || orders.has(order) || order > most) {
      throw refusal('is no place in the order of the processors that are enabled', {
        at: state,
        below: '/@order',
        value: order,
      })
    }
    orders.add(order)
  }
  const running = (vcpus.vcpus ?? []).filter(({ enabled }) => enabled)
  if (orders.size > 0 && orders.size < running.length) {
    throw unsupported('all vcpus must have either set or unset order', { at: vcpus })
  }
  const states = vcpuStates(def)
  const { vcpu: counts, vcpus: all } = withVcpus(def, states)
  Object.assign(vcpu!, counts)
  if (counts!.current === undefined) delete vcpu!.current
  vcpus.vcpus = all!.vcpus!
  const first = states.findIndex(({ hotpluggable }) => hotpluggable)
  const late = states.slice(Math.max(0, first)).find(({ hotpluggable }) => hotpluggable !== true)
  if (first >= 0 && late !== undefined) {
    throw unsupported(
      'online non-hotpluggable vcpus need to be ordered prior to hotplugable vcpus, ' +
        `but vcpu ${late.id} comes after one that can be plugged out`,
      { at: vcpus },
    )
  }
}

function normalisePlaces({ vcpu, cputune, numatune, cpu }: DomainDefinition): void {
  const holders: [object, string][] = [
    [vcpu ?? {}, 'cpuset'],
    ...[...(cputune?.vcpupins ?? []), ...(cputune?.iothreadpins ?? [])].map(
      (pin): [object, string] => [pin, 'cpuset'],
    ),
    [cputune?.emulatorpin ?? {}, 'cpuset'],
    [numatune?.memory ?? {}, 'nodeset'],
    ...(numatune?.memnodes ?? []).map((node): [object, string] => [node, 'nodeset']),
    ...(cpu?.numa?.cells ?? []).map((cell): [object, string] => [cell, 'cpus']),
  ]
  for (const [holder, key] of holders) {
    const record = holder as Record<string, string | undefined>
    const text = record[key]
    if (text === undefined) continue
    const normal = normaliseCpuset(text)
    if (normal === undefined) {
      throw refusal('expected a list such as 0-3,^2,6', {
        at: holder,
        below: `/@${key}`,
        value: text,
      })
    }
    record[key] = normal
  }
}

function normaliseCpu(given: Cpu | undefined, def: DomainDefinition): Cpu {
  const cpu = given ?? {}
  if (cpu.topology !== undefined) cpu.topology.dies ??= 1
  for (const feature of cpu.features ?? []) feature.policy ??= 'require'
  refuseTwice(cpu)
  // A model without a name is the default one; only its mode is then of interest.
  if (cpu.model?.value === '') delete cpu.model
  if (cpu.model === undefined && (cpu.mode ?? 'custom') === 'custom') {
    const bare = (cpu.features ?? []).length === 0
    if (!bare) {
      throw refusal('is missing: features change a model', { at: cpu, below: '/model' })
    }
    const model = def.os?.type?.arch === 'i686' ? 'qemu32' : 'qemu64'
    return {
      ...cpu,
      mode: 'custom',
      match: 'exact',
      check: 'none',
      model: { fallback: 'forbid', value: model },
    }
  }
  cpu.mode ??= 'custom'
  if (cpu.mode === 'custom') {
    cpu.match ??= 'exact'
    // The software engine has the same features on every host, so there is nothing to compare.
    cpu.check ??= def.type === 'qemu' ? 'none' : 'partial'
    if (cpu.model !== undefined) cpu.model.fallback ??= 'allow'
    return cpu
  }
  delete cpu.match
  if (cpu.mode === 'host-model' && cpu.model !== undefined) cpu.model.fallback ??= 'allow'
  else delete cpu.model
  cpu.check ??= cpu.mode === 'host-model' ? 'partial' : 'none'
  if (cpu.mode === 'host-passthrough') cpu.migratable ??= true
  return cpu
}

function refuseTwice({ features = [] }: Cpu): void {
  const seen = new Set<string>()
  for (const feature of features) {
    if (seen.has(feature.name)) {
      throw refusal('is named already', { at: feature, below: '/@name', value: feature.name })
    }
    seen.add(feature.name)
  }
}

function checkTopology({ cpu, vcpu }: DomainDefinition): void {
  const { topology } = cpu ?? {}
  if (topology === undefined || vcpu === undefined) return
  const places = topology.sockets * (topology.dies ?? 1) * topology.cores * topology.threads
  if (places !== vcpu.value) {
    throw unsupported(
      `the topology has ${places} processors, <vcpu> has ${vcpu.value}; both must be the same`,
      { at: topology },
    )
  }
}
