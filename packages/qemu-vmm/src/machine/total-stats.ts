import type { Hardware } from './hardware.ts'

/** Counters of a machine that stands: of its memory, and of all its processors and devices together. */
export function totalStats(
  hardware: Pick<Hardware, 'handles' | 'deviceStats'>,
): Record<string, number> {
  const { ram, vcpus } = hardware.handles
  const totals: Record<string, number> = {
    memoryBytes: ram.size,
    AnonHugePages: ram.hugeBytes(),
    residentBytes: ram.residentBytes(),
  }
  const own = vcpus.map((vcpu) => {
    const { code, ...rest } = vcpu.stats()
    return { ...rest, ...code }
  })
  for (const counters of [...hardware.deviceStats(), ...own]) {
    for (const [name, value] of Object.entries(counters)) {
      totals[name] = (totals[name] ?? 0) + Number(value)
    }
  }
  return totals
}
