import { PIIX4_PM } from '../../src/chipset/acpi-pm.ts'
import { comPort } from '../../src/machine/acpi/isa-devices.ts'
import type { TableConfig } from '../../src/machine/firmware-tables.ts'
import { resolveTopology } from '../../src/machine/topology.ts'
import { NIL_UUID } from '../../src/machine/uuid.ts'

/** What tables say of a small machine. */
export const tableFacts: TableConfig = {
  board: 'i440fx',
  pmKind: PIIX4_PM,
  pmPort: 0x600,
  gpe0Port: 0xafe0,
  topology: resolveTopology({ cpus: 2, maxcpus: 4 }, 'pc'),
  pciHoleStart: 0x8000_0000,
  isaDevices: [comPort(0)],
  machine: 'pc',
  product: 'Standard PC',
  uuid: NIL_UUID,
  memoryBytes: 1 << 29,
}
