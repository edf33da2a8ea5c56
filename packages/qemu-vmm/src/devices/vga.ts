import { readRom } from '../chipset/pci/rom.ts'
import { Vga } from '../chipset/vga/vga.ts'
import { findFirmware } from '../firmware/find.ts'
import { VmmError } from '../errors.ts'
import type { DeviceOption, DeviceType } from './device-type.ts'
import { PCI_ADDRESS_PROPERTIES, PCI_ROM_PROPERTIES, plugFunction } from './pci-address.ts'
import type { PlugContext } from './plug-context.ts'
import { propertyReader } from './properties.ts'

/** The video BIOS of this adapter. */
const VGA_BIOS = { name: 'vgabios-stdvga.bin', what: 'VGA BIOS', package: 'seabios' } as const
const MIB = 1 << 20

export const vga: DeviceType = {
  name: 'VGA',
  bus: 'PCI',
  category: 'Display devices',
  description: 'standard VGA, with the display interface of Bochs',
  properties: [
    { name: 'vgamem_mb', type: 'uint32', help: 'MiB of video memory', default: '16' },
    ...PCI_ADDRESS_PROPERTIES,
    ...PCI_ROM_PROPERTIES,
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
    const rom = videoBios(context, option)
    const device = new Vga({
      name,
      bus: context.bus,
      memory: context.createVideoMemory(mib * MIB),
      ...(rom === undefined ? {} : { rom }),
    })
    const { romfile: _ours, ...properties } = option.properties
    plugFunction(context, device.fn, { ...option, properties })
    context.displays.push(device)
    return device
  },
}

/** What `romfile=` names, or the adapter's own BIOS where some package has put it. */
function videoBios(context: PlugContext, option: DeviceOption): Uint8Array | undefined {
  const read = propertyReader(option)
  if (!read.bool('rombar', true)) return undefined
  const file = read.text('romfile')
  if (file !== undefined) return file === '' ? undefined : readRom(file)
  try {
    return readRom(findFirmware(VGA_BIOS, context.firmwareFolders))
  } catch (error) {
    if (!(error instanceof VmmError) || error.code !== 'E_NO_FIRMWARE') throw error
    // A kernel has its own driver; firmware that runs without this one shows nothing.
    if (context.runsFirmware) context.log(error.message)
    return undefined
  }
}
