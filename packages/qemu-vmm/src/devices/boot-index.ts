import type { DeviceOption, PropertySpec } from './device-type.ts'
import type { PlugContext } from './plug-context.ts'
import { propertyReader } from './properties.ts'

const MAX = 0x7fff_ffff

/** The property that says when firmware tries to boot a device. */
export const BOOT_INDEX_PROPERTY: PropertySpec = {
  name: 'bootindex',
  type: 'int32',
  help: 'Place in the boot order, from 0 on; -1 for none',
  default: '-1',
}

/** Enters a device, by its Open Firmware path, if its option has an index. */
export function addBootIndex(
  { bootIndex }: Pick<PlugContext, 'bootIndex'>,
  option: DeviceOption,
  path: string,
): void {
  const index = propertyReader(option).int(BOOT_INDEX_PROPERTY.name, -1, MAX, -1)
  if (index >= 0) bootIndex.add(index, path)
}
