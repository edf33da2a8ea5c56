import type { SlotHotplug } from '../chipset/pci/hotplug.ts'
import { BOOT_INDEX_PROPERTY } from '../devices/boot-index.ts'
import type { DeviceOption, DeviceType } from '../devices/device-type.ts'
import { segmentOf } from '../devices/pci-address.ts'
import type { PlugContext } from '../devices/plug-context.ts'
import { VmmError } from '../errors.ts'

/** Buses that nothing can be plugged into while the machine runs, as QEMU names the first of each. */
const FIXED_BUSES: Readonly<Record<Exclude<DeviceType['bus'], 'PCI'>, string>> = {
  ISA: 'isa.0',
  IDE: 'ide.0',
  'floppy-bus': 'floppy-bus.0',
  'virtio-serial-bus': 'virtio-serial-bus',
}

/**
 * How a device is plugged in while the machine runs. Throws `E_HOTPLUG` where it cannot be, and
 * `E_DEVICE_OPTION` for a bus that is not there.
 */
export function checkHotplug(
  type: DeviceType,
  option: DeviceOption,
  context: Pick<PlugContext, 'pciBuses'>,
): SlotHotplug {
  const device = option.id ?? option.driver
  if (type.bus !== 'PCI') throw busRefuses(option.properties['bus'] ?? fixedBus(type), device)
  const { name, bus } = segmentOf(context, option)
  if (bus.hotplug === undefined) throw busRefuses(name, device)
  if (type.hotpluggable !== true) {
    throw new VmmError(
      'E_HOTPLUG',
      `Parameter 'driver' expects a pluggable device type; give '${type.name}' when the machine starts`,
      { fields: { device } },
    )
  }
  const index = option.properties[BOOT_INDEX_PROPERTY.name] ?? '-1'
  if (index !== '-1') {
    throw new VmmError(
      'E_HOTPLUG',
      `bootindex=${index}: firmware has its boot order since the machine was made; leave it out`,
      { fields: { device, bootindex: index } },
    )
  }
  bus.hotplug.checkPlug()
  return bus.hotplug
}

/** The first bus of a kind that cannot be changed while the machine runs. */
export function fixedBus({ bus }: DeviceType): string {
  return bus === 'PCI' ? 'pci.0' : FIXED_BUSES[bus]
}

/** The bus cannot be changed while the machine runs. */
export function busRefuses(bus: string, device: string): VmmError {
  const remedy = bus === 'pcie.0' ? '; name a pcie-root-port that the machine began with' : ''
  return new VmmError('E_HOTPLUG', `Bus '${bus}' does not support hotplugging${remedy}`, {
    fields: { bus, device },
  })
}
