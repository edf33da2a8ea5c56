import type { MachineConfig } from './config.ts'

type Chosen = Pick<MachineConfig, 'kernel' | 'bios' | 'flash'>

/** Whether firmware runs: without a kernel, which is else started at once, or where some is named. */
export function runsFirmware({ kernel, bios, flash }: Chosen): boolean {
  return kernel === undefined || bios !== undefined || flash?.[0] !== undefined
}

/** Whether the kernel is started by firmware. */
export function startsKernelByFirmware(config: Chosen): boolean {
  return config.kernel !== undefined && runsFirmware(config)
}
