import type { PciFunctionInfo } from '../../machine/pci-info.ts'
import type { QmpCommand } from './command.ts'
import { any, bool, int, listOf, oneOf, str, struct } from './types.ts'

/** Names of classes, QEMU's. */
const CLASSES: Readonly<Record<number, string>> = {
  0x0100: 'SCSI controller',
  0x0101: 'IDE controller',
  0x0106: 'SATA controller',
  0x0200: 'Ethernet controller',
  0x0300: 'VGA controller',
  0x0600: 'Host bridge',
  0x0601: 'ISA bridge',
  0x0604: 'PCI bridge',
  0x0680: 'Bridge',
  0x0c05: 'SMBus',
}

const RANGE = struct({ base: int, limit: int })
const BRIDGE = struct({
  bus: struct({
    number: int,
    secondary: int,
    subordinate: int,
    io_range: RANGE,
    memory_range: RANGE,
    prefetchable_range: RANGE,
  }),
  // Devices again.
  'devices?': listOf(any),
})
const REGION = struct({
  bar: int,
  type: oneOf(['io', 'memory']),
  address: int,
  size: int,
  'prefetch?': bool,
  'mem_type_64?': bool,
})
const DEVICE = struct({
  bus: int,
  slot: int,
  function: int,
  class_info: struct({ 'desc?': str, class: int }),
  id: struct({ device: int, vendor: int, 'subsystem?': int, 'subsystem-vendor?': int }),
  'irq?': int,
  irq_pin: int,
  qdev_id: str,
  'pci_bridge?': BRIDGE,
  regions: listOf(REGION),
})

/** `query-pci`. */
export const PCI_QUERY: QmpCommand = {
  name: 'query-pci',
  args: struct({}),
  returns: listOf(struct({ bus: int, devices: listOf(DEVICE) })),
  run: async ({ machine, facts }) =>
    facts.type === 'none' ? [] : [{ bus: 0, devices: (await machine.manage('pci')).map(describe) }],
}

/** The name of a class; undefined where it has none. */
export function className(classCode: number): string | undefined {
  return CLASSES[classCode]
}

function describe(fn: PciFunctionInfo): object {
  const desc = className(fn.classCode)
  return {
    bus: fn.bus,
    slot: fn.slot,
    function: fn.functionNumber,
    class_info: { class: fn.classCode, ...(desc === undefined ? {} : { desc }) },
    id: {
      device: fn.device,
      vendor: fn.vendor,
      ...(fn.subsystem === undefined
        ? {}
        : { subsystem: fn.subsystem.device, 'subsystem-vendor': fn.subsystem.vendor }),
    },
    ...(fn.interruptPin === 0 ? {} : { irq: fn.interruptLine }),
    irq_pin: fn.interruptPin,
    qdev_id: fn.id,
    ...(fn.bridge === undefined ? {} : { pci_bridge: bridge(fn.bridge) }),
    regions: fn.regions.map(({ bar, space, base = -1, size, prefetchable, is64 }) => ({
      bar,
      type: space === 'pio' ? 'io' : 'memory',
      address: base,
      size,
      ...(space === 'pio' ? {} : { prefetch: prefetchable, mem_type_64: is64 }),
    })),
  }
}

function bridge(info: NonNullable<PciFunctionInfo['bridge']>): object {
  return {
    bus: {
      number: info.primary,
      secondary: info.secondary,
      subordinate: info.subordinate,
      io_range: info.io,
      memory_range: info.memory,
      prefetchable_range: info.prefetchable,
    },
    // Nothing can be told of a bus without a number.
    ...(info.secondary === 0 ? {} : { devices: info.devices.map(describe) }),
  }
}
