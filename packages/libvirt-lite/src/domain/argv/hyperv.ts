import type { DomainDefinition } from '../generated/model.ts'
import { only } from './command.ts'
import type { Command } from './command.ts'

type Hyperv = NonNullable<NonNullable<DomainDefinition['features']>['hyperv']>

const PATH = '/domain/features/hyperv'

/** Those that are on or off, with QEMU's names of the processor's properties. */
const SWITCHES: Partial<Record<keyof Hyperv, string>> = {
  relaxed: 'hv-relaxed',
  vapic: 'hv-vapic',
  vpindex: 'hv-vpindex',
  runtime: 'hv-runtime',
  synic: 'hv-synic',
  stimer: 'hv-stimer',
  reset: 'hv-reset',
  frequencies: 'hv-frequencies',
  reenlightenment: 'hv-reenlightenment',
  tlbflush: 'hv-tlbflush',
  ipi: 'hv-ipi',
  evmcs: 'hv-evmcs',
  avic: 'hv-avic',
}

/**
 * Flags of the processor for what Windows may know of its hypervisor. A guest asks for each before it uses it, so that one
 * without them runs as well: an emulator that has none is not told of them.
 */
export function hypervFlags({ def, features, result }: Command): string[] {
  const { hyperv } = def.features ?? {}
  const hasTimer = (def.clock?.timers ?? []).some(
    ({ name, present }) => name === 'hypervclock' && (present ?? true),
  )
  if (hyperv === undefined && !hasTimer) return []
  if (!features.tuning) {
    const what = hyperv === undefined ? '/domain/clock/timer' : PATH
    result.warnings.push(`${what}: the emulator tells guests of no Hyper-V, and they do without`)
    return []
  }
  const flags: string[] = hasTimer ? ['hv-time=on'] : []
  only(hyperv, PATH, ['mode', 'spinlocks', 'vendorId', ...Object.keys(SWITCHES)])
  if (hyperv?.mode === 'passthrough') flags.push('hv-passthrough=on')
  for (const [key, flag] of Object.entries(SWITCHES)) {
    const feature = hyperv?.[key as 'relaxed']
    only(feature, `${PATH}/${key}`, key === 'stimer' ? ['state', 'direct'] : ['state'])
    if (feature?.state === true) flags.push(`${flag}=on`)
  }
  const { spinlocks, vendorId, stimer } = hyperv ?? {}
  if (stimer?.direct?.state === true) flags.push('hv-stimer-direct=on')
  if (spinlocks?.state === true) {
    flags.push(`hv-spinlocks=0x${(spinlocks.retries ?? 4095).toString(16)}`)
  }
  if (vendorId?.state === true) {
    flags.push(`hv-vendor-id=${(vendorId.value ?? '').replaceAll(',', ',,')}`)
  }
  return flags
}
