import { Vga } from '../chipset/vga/vga.ts'
import type { FirmwareFile } from '../firmware/find.ts'
import { VmmError } from '../errors.ts'
import type { DeviceType } from './device-type.ts'
import { loadOptionRom, romProperties } from './option-rom.ts'
import { PCI_ADDRESS_PROPERTIES, plugFunction } from './pci-address.ts'
import { propertyReader } from './properties.ts'

/** The video BIOS of this adapter. */
const VGA_BIOS: FirmwareFile = {
  name: 'vgabios-stdvga.bin',
  what: 'VGA BIOS',
  package: 'seabios',
  option: 'romfile=',
}
const MIB = 1 << 20

export const vga: DeviceType = {
  name: 'VGA',
  bus: 'PCI',
  category: 'Display devices',
  description: 'standard VGA, with the display interface of Bochs',
  properties: [
    { name: 'vgamem_mb', type: 'uint32', help: 'MiB of video memory', default: '16' },
    ...PCI_ADDRESS_PROPERTIES,
    ...romProperties(VGA_BIOS),
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const name = option.id ?? option.driver
    const mib = read.int('vgamem_mb', 1, 256, 16)
    if ((mib & (mib - 1)) !== 0) {
      throw new VmmError(
        'E_DEVICE_OPTION',
        `Property 'VGA.vgamem_mb' doesn't take value '${mib}': it is a power of two from 1 to 256`,
        { fields: { device: name, vgamem_mb: mib } },
      )
    }
    if (context.displays.length > 0) {
      throw new VmmError(
        'E_DEVICE_OPTION',
        `the machine has a VGA already, and ${name} would be at the same ports; remove one`,
        { fields: { device: name } },
      )
    }
    // Its font is there before the BIOS runs.
    const rom = loadOptionRom({ ...context, log: () => {} }, option, VGA_BIOS)
    const device = new Vga({
      name,
      bus: context.bus,
      memory: context.createVideoMemory(mib * MIB),
      ...(context.latches === undefined ? {} : { latches: context.latches }),
      ...(rom === undefined ? {} : { rom: rom.image }),
    })
    plugFunction(context, device.fn, option, VGA_BIOS)
    context.displays.push(device)
    return device
  },
}
