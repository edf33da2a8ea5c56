import { assignAliases } from '../aliases.ts'
import type { AnyDevice } from '../devices.ts'
import type {
  Devices,
  Disk,
  DomainDefinition,
  NetworkInterface,
  RandomGenerator,
} from '../generated/model.ts'
import { defaultEmulator } from '../options.ts'
import { originOf } from '../schema/position.ts'
import { bootIndices } from './boot.ts'
import { Command, notYet } from './command.ts'
import type { ArgvOptions, Keys } from './command.ts'
import { addRng } from './devices.ts'
import { addDisk } from './disks.ts'
import { featuresOf } from './features.ts'
import { addCard } from './network.ts'

/** What a running emulator is told so that it gets a device: arguments of its commands. */
export interface DevicePlug {
  /** Of `blockdev-add`. */
  blockdev: Record<string, unknown> | undefined
  /** Of `netdev_add`. */
  netdev: Record<string, unknown> | undefined
  /** Of `object-add`, each of them, when there is the network. */
  objects: Record<string, unknown>[]
  /** Of `device_add`. */
  device: Record<string, unknown>
}

/** Of devices, those that come and go while a domain runs. */
export const PLUGGABLE = 'disks, network cards and random number generators'

/** Properties that are true or false in JSON, where a command line has `on` and `off`. */
const booleans = new Set([
  'multifunction',
  'ioeventfd',
  'event_idx',
  'iommu_platform',
  'ats',
  'packed',
  'page-per-vq',
  'share-rw',
])

/**
 * How a device of a complete definition is plugged in. Aliases of the definition are assigned.
 *
 * @throws XmlError (67, CONFIG_UNSUPPORTED) for what a running domain cannot be given
 */
export function plugOf(
  def: DomainDefinition,
  key: keyof Devices,
  device: AnyDevice,
  options: ArgvOptions,
): DevicePlug {
  assignAliases(def)
  const program = def.devices?.emulator ?? defaultEmulator
  const command = new Command(def, options, options.features ?? featuresOf(program), program)
  const path = originOf(device)?.path ?? `/${key}`
  const bootindex = bootIndices(def).get(device)
  if (key === 'disks') {
    const { target } = device as Disk
    if (target?.bus !== 'virtio') {
      const text = `disks are plugged in and out at the bus "virtio", not at "${target?.bus}"`
      throw notYet(`${path}/target/@bus`, text)
    }
    addDisk(command, device as Disk, path, device.boot === undefined ? undefined : bootindex)
  } else if (key === 'interfaces') {
    addCard(
      command,
      device as NetworkInterface,
      path,
      device.boot === undefined ? undefined : bootindex,
    )
  } else if (key === 'rngs') addRng(command, device as RandomGenerator, path)
  else throw notYet(path, `only ${PLUGGABLE} can be plugged in while a domain runs`)
  const keysOf = (option: string) => command.records.find((record) => record.option === option)
  const drive = keysOf('-drive')
  const { policies, ...blockdev } =
    drive === undefined ? { policies: {} } : blockNode(command, device as Disk, drive.keys, path)
  const { first, keys } = keysOf('-device')!
  return {
    blockdev: drive === undefined ? undefined : blockdev,
    objects: command.records.filter(({ option }) => option === '-object').map(objectOf),
    netdev: netdevOf(keysOf('-netdev')?.keys),
    device: { driver: first, ...typed(keys), ...policies },
  }
}

/** A drive of a command line as a node, and what of it belongs to the device then. */
function blockNode(command: Command, disk: Disk, keys: Keys, path: string) {
  const { tuning } = command.features
  const { cache, werror, rerror, aio } = keys
  if (keys['copy-on-read'] === 'on') {
    throw notYet(`${path}/driver/@copy_on_read`, 'a disk that is plugged in cannot have it')
  }
  const isThrough = cache === 'writethrough' || cache === 'directsync'
  if (!tuning && isThrough) {
    throw notYet(`${path}/driver/@cache`, 'a disk that is plugged in has writeback, none or unsafe')
  }
  if (!tuning && (werror !== undefined || rerror !== undefined)) {
    throw notYet(`${path}/driver/@error_policy`, 'a disk that is plugged in has the default one')
  }
  const direct = cache === 'none' || cache === 'directsync'
  return {
    driver: keys['format'],
    'node-name': keys['id'],
    'read-only': keys['readonly'] === 'on',
    ...(keys['discard'] === undefined ? {} : { discard: keys['discard'] }),
    ...(keys['detect-zeroes'] === undefined ? {} : { 'detect-zeroes': keys['detect-zeroes'] }),
    cache: { direct, 'no-flush': cache === 'unsafe' },
    file: {
      driver: disk.type === 'block' && tuning ? 'host_device' : 'file',
      filename: keys['file'],
      ...(aio === undefined ? {} : { aio }),
    },
    policies: {
      ...(isThrough ? { 'write-cache': 'off' } : {}),
      ...(werror === undefined ? {} : { werror }),
      ...(rerror === undefined ? {} : { rerror }),
    },
  }
}

function objectOf({ first, keys }: Command['records'][number]) {
  return { 'qom-type': first, ...typed(keys) }
}

function netdevOf(keys: Keys | undefined): Record<string, unknown> | undefined {
  if (keys === undefined) return undefined
  const { 'ipv6-net': ipv6, ...rest } = keys
  const [prefix, length] = String(ipv6 ?? '').split('/')
  return {
    type: 'user',
    ...typed(rest),
    ...(ipv6 === undefined ? {} : { 'ipv6-prefix': prefix, 'ipv6-prefixlen': Number(length) }),
  }
}

function typed(keys: Keys): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(keys).flatMap(([key, value]) => {
      if (value === undefined) return []
      return [[key, booleans.has(key) ? value === 'on' : value]]
    }),
  )
}
