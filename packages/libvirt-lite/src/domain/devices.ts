import type {
  Alias,
  Devices,
  DeviceAddress,
  DeviceBoot,
  DomainDefinition,
} from './generated/model.ts'

/** What all devices have. */
export interface AnyDevice {
  alias?: Alias
  address?: DeviceAddress
  boot?: DeviceBoot
}

/** Properties of `<devices>` that are devices. */
const kinds = [
  'disks',
  'controllers',
  'filesystems',
  'interfaces',
  'smartcards',
  'serials',
  'parallels',
  'consoles',
  'channels',
  'inputs',
  'tpms',
  'sounds',
  'videos',
  'hostdevs',
  'redirdevs',
  'hubs',
  'watchdogs',
  'memballoon',
  'rngs',
  'nvram',
  'panics',
  'shmems',
  'memories',
  'iommu',
  'vsock',
  'cryptos',
] as const satisfies readonly (keyof Devices)[]

/** All devices of a definition that can have an alias, in the order of the document. */
export function allDevices({ devices }: DomainDefinition): AnyDevice[] {
  return kinds.flatMap((kind): AnyDevice[] => {
    const value: AnyDevice | AnyDevice[] | undefined = devices?.[kind]
    return value === undefined ? [] : Array.isArray(value) ? value : [value]
  })
}
