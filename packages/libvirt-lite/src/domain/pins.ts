import { normaliseCpuset } from './normalise/cpuset.ts'
import type { DomainDefinition } from './generated/model.ts'

// Where on the host processors of a domain, and its emulator, may run: `<vcpu cpuset=>` for all that say nothing of their
// own, `<cputune><vcpupin>` and `<emulatorpin>`.

/** Processors of the host that one of the guest may run on, as a list; undefined for all. */
export function vcpuPin({ vcpu, cputune }: DomainDefinition, id: number): string | undefined {
  return cputune?.vcpupins?.find((pin) => pin.vcpu === id)?.cpuset ?? vcpu?.cpuset
}

/** The same of all that is no processor of the guest. */
export function emulatorPin({ vcpu, cputune }: DomainDefinition): string | undefined {
  return cputune?.emulatorpin?.cpuset ?? vcpu?.cpuset
}

/** A definition in which a processor runs on those of a list. */
export function withVcpuPin(def: DomainDefinition, id: number, cpuset: string): DomainDefinition {
  const others = (def.cputune?.vcpupins ?? []).filter((pin) => pin.vcpu !== id)
  const vcpupins = [...others, { vcpu: id, cpuset }].toSorted((a, b) => a.vcpu - b.vcpu)
  return { ...structuredClone(def), cputune: { ...structuredClone(def.cputune), vcpupins } }
}

/** A definition whose emulator runs on the processors of a list. */
export function withEmulatorPin(def: DomainDefinition, cpuset: string): DomainDefinition {
  const emulatorpin = { cpuset }
  return { ...structuredClone(def), cputune: { ...structuredClone(def.cputune), emulatorpin } }
}

/** Numbers in a list of a definition. */
export function cpusIn(list: string): number[] {
  return list.split(',').flatMap((range) => {
    const [from = 0, to = from] = range.split('-').map(Number)
    return Array.from({ length: to - from + 1 }, (_, i) => from + i)
  })
}

/** A list of those whose bits are set, lowest first; empty where none is. */
export function listOfMap(map: Uint8Array): string {
  const cpus = [...map].flatMap((byte, index) =>
    Array.from({ length: 8 }, (_, bit) => bit)
      .filter((bit) => ((byte >> bit) & 1) === 1)
      .map((bit) => index * 8 + bit),
  )
  return cpus.length === 0 ? '' : (normaliseCpuset(cpus.join(',')) ?? '')
}
