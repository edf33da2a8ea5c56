import type { DomainDefinition, VcpuState } from './generated/model.ts'

// Which processors of a domain there are: `<vcpu current='1'>4</vcpu>`, and `<vcpus>` where they are told one by one.

/** No machine has more; definitions for others may not cost more than that. */
export const MOST_VCPUS = 16_384

/** All processors that there can be, whether they are told one by one or not. */
export function vcpuStates({ vcpu, vcpus }: DomainDefinition): VcpuState[] {
  const most = vcpu?.value ?? 1
  const now = vcpu?.current ?? most
  const told = new Map((vcpus?.vcpus ?? []).map((state) => [state.id, state]))
  return Array.from({ length: most }, (_, id): VcpuState => {
    const state = told.get(id)
    const enabled = state?.enabled ?? (vcpus === undefined && id < now)
    // The first one stays. What comes later may go as well.
    const hotpluggable = id > 0 && (state?.hotpluggable ?? !enabled)
    const order = enabled ? state?.order : undefined
    return { id, enabled, hotpluggable, ...(order === undefined ? {} : { order }) }
  })
}

/** A definition with these processors, told one by one. */
export function withVcpus(def: DomainDefinition, states: readonly VcpuState[]): DomainDefinition {
  const changed = structuredClone(def)
  const current = states.filter(({ enabled }) => enabled).length
  const vcpu = { ...changed.vcpu, value: states.length, current }
  if (current === states.length) delete (vcpu as { current?: number }).current
  changed.vcpu = vcpu
  changed.vcpus = { vcpus: [...states] }
  return changed
}

/** Processors that the emulator starts with: the others are plugged in. */
export function bootVcpus(def: DomainDefinition): number {
  return vcpuStates(def).filter(({ enabled, hotpluggable }) => enabled && hotpluggable !== true)
    .length
}

/** Those that are plugged in before the guest runs, in their order. */
export function pluggedVcpus(def: DomainDefinition): VcpuState[] {
  return vcpuStates(def)
    .filter(({ enabled, hotpluggable }) => enabled && hotpluggable === true)
    .toSorted((a, b) => (a.order ?? a.id + 1) - (b.order ?? b.id + 1))
}
