import { MOST_VCPUS, vcpuStates, withVcpus } from '../domain/index.ts'
import type { VcpuState } from '../domain/index.ts'
import type { DomainDefinition } from '../driver/model.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'

// What becomes of the processors of a definition. As in libvirt their order is forgotten.

const PART = /^(\^?)(\d{1,5})(?:-(\d{1,5}))?$/

/** A definition with places for so many processors. @throws VirtError where its topology has others */
export function withMaximum(before: DomainDefinition, count: number): DomainDefinition {
  if (count > MOST_VCPUS) throw wrong(`a domain has at most ${MOST_VCPUS} vcpus, not ${count}`)
  const { topology } = before.cpu ?? {}
  if (topology !== undefined) {
    const { sockets, dies = 1, cores, threads } = topology
    if (sockets * dies * cores * threads !== count) {
      throw wrong("CPU topology doesn't match the desired vcpu count")
    }
  }
  const definition = structuredClone(before)
  const now = definition.vcpu?.value ?? 1
  const vcpu = (definition.vcpu ??= { value: now })
  if (definition.vcpus !== undefined) {
    const known = vcpuStates(definition).slice(0, count)
    const more = Array.from({ length: count - known.length }, (_, i) => off(known.length + i))
    return withVcpus(definition, [...known, ...more]) as DomainDefinition
  }
  const current = Math.min(vcpu.current ?? vcpu.value, count)
  vcpu.value = count
  vcpu.current = current
  if (current === count) delete vcpu.current
  return definition
}

/** A definition that starts with so many processors. */
export function withCount(
  before: DomainDefinition,
  count: number,
  isHotpluggable: boolean,
): DomainDefinition {
  if (before.vcpus === undefined && !isHotpluggable) {
    const definition = structuredClone(before)
    const vcpu = (definition.vcpu ??= { value: 1 })
    vcpu.current = count
    if (vcpu.current === vcpu.value) delete vcpu.current
    return definition
  }
  const states = plain(before)
  const enabled = states.filter((state) => state.enabled).map(({ id }) => id)
  const free = states.filter((state) => !state.enabled).map(({ id }) => id)
  for (const id of free.slice(0, Math.max(0, count - enabled.length))) states[id] = on(id)
  for (const id of enabled.slice(count)) states[id] = off(id)
  return withVcpus(before, states) as DomainDefinition
}

/** A definition that starts with or without some of its processors. */
export function withStates(
  before: DomainDefinition,
  ids: readonly number[],
  enabled: boolean,
): DomainDefinition {
  const states = plain(before)
  for (const id of ids) states[id] = enabled ? on(id) : off(id)
  return withVcpus(before, states) as DomainDefinition
}

/** @throws VirtError for processors whose state is not to be changed */
export function checkChange(
  definition: DomainDefinition,
  ids: readonly number[],
  enabled: boolean,
  isLive: boolean,
): void {
  const states = vcpuStates(definition)
  for (const id of ids) {
    const state = states[id]
    if (state === undefined) {
      const kind = isLive ? 'live' : 'persistent'
      throw wrong(`vcpu ${id} is not present in ${kind} config`)
    }
    if (id === 0 && !isLive) throw wrong("vCPU '0' can't be modified")
    if (state.enabled === enabled && isLive) {
      throw wrong(`vcpu '${id}' is already in requested state`)
    }
    if (isLive && !enabled && state.hotpluggable !== true) {
      throw new VirtError(
        ErrorCode.OPERATION_UNSUPPORTED,
        `Operation not supported: vcpu '${id}' can't be unplugged`,
      )
    }
  }
}

/** The numbers in a list such as `1-3,^2`. @throws VirtError */
export function cpusetIds(list: string): number[] {
  const ids = new Set<number>()
  // Who names them again and again keeps everybody waiting.
  let left = 2 * MOST_VCPUS
  for (const part of list.split(',')) {
    const [whole, not, from, to = from] = PART.exec(part) ?? []
    left -= Number(to) - Number(from) + 1
    if (whole === undefined || Number(to) < Number(from) || Number(to) >= MOST_VCPUS || left < 0) {
      throw wrong(`Failed to parse bitmap '${list.slice(0, 100)}'`)
    }
    for (let id = Number(from); id <= Number(to); id++) {
      if (not === '^') ids.delete(id)
      else ids.add(id)
    }
  }
  if (ids.size === 0) throw wrong('no vcpus selected for modification')
  return [...ids].toSorted((a, b) => a - b)
}

export function wrong(text: string): VirtError {
  return new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
}

/** The processors of a definition, without an order. */
function plain(definition: DomainDefinition): VcpuState[] {
  return vcpuStates(definition).map(({ order: _order, ...state }) => state)
}

function on(id: number): VcpuState {
  return { id, enabled: true, hotpluggable: true }
}

function off(id: number): VcpuState {
  return { id, enabled: false, hotpluggable: true }
}
