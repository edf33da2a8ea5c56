import type { RamSlot } from '../memory-map.ts'
import type { CpuTopology } from '../topology.ts'
import type { SmbiosOption } from './options.ts'

/** Who makes everything, where nobody else is named. */
export const MANUFACTURER = 'QEMU'

/** Facts about the machine that SMBIOS shows. */
export interface SmbiosConfig {
  machine: string
  /** Product name of the system. */
  product: string
  uuid: string
  memoryBytes: number
  /** Where RAM is; by default from 0 on. */
  ram?: readonly Pick<RamSlot, 'gpa' | 'size'>[]
  topology: CpuTopology
  /** EAX and EDX of CPUID's leaf 1. */
  cpuId?: { readonly eax: number; readonly edx: number }
  /** What is to be there in place of the defaults. */
  smbios?: readonly SmbiosOption[]
}
