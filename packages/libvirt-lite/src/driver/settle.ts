import type { DomainDefinition } from './model.ts'
import { settleCpu } from './settle-cpu.ts'
import { settleFirmware } from './settle-firmware.ts'

/** A definition with nothing left open: its firmware, with variables in `nvram`, and its processor. */
export async function settle(
  definition: DomainDefinition,
  nvram: string,
): Promise<DomainDefinition> {
  return await settleCpu(settleFirmware(definition, nvram))
}
