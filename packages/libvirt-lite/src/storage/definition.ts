// The XML of pools and volumes, as far as folders and images need it.
import { ErrorCode, VirtError } from '../rpc/index.ts'
import { XmlError, attributeOf, childElements, childNamed, parseXml, textOf } from '../xml/index.ts'
import type { XmlElement } from '../xml/index.ts'
import { checkVolumeName } from './volume.ts'

/** What a new file or folder is to have; what is left out is as the system makes it. */
export interface Permissions {
  mode?: number
  owner?: number
  group?: number
}

/** What a pool's definition says. */
export interface PoolDefinition {
  name: string
  uuid?: string
  path: string
  permissions?: Permissions
}

/** What a new volume's definition says. */
export interface VolumeDefinition {
  name: string
  format: 'raw' | 'qcow2'
  /** Bytes; undefined where the definition leaves it to the volume that is copied. */
  capacity?: number
  /** Bytes that are there from the start. */
  allocation?: number
  backing?: { path: string; format: string }
  permissions: Permissions
  /** Options of `qemu-img create` for its format: `compat`, `cluster_size`, `lazy_refcounts`. */
  options: Readonly<Record<string, string>>
}

const units: Readonly<Record<string, number>> = {
  B: 1,
  bytes: 1,
  KB: 1e3,
  K: 2 ** 10,
  KiB: 2 ** 10,
  MB: 1e6,
  M: 2 ** 20,
  MiB: 2 ** 20,
  GB: 1e9,
  G: 2 ** 30,
  GiB: 2 ** 30,
  TB: 1e12,
  T: 2 ** 40,
  TiB: 2 ** 40,
}

const wrong = (text: string): VirtError => new VirtError(ErrorCode.XML_ERROR, `XML error: ${text}`)
const lacking = (text: string): VirtError =>
  new VirtError(ErrorCode.CONFIG_UNSUPPORTED, `unsupported configuration: ${text}`)

function read(xml: string): XmlElement {
  try {
    return parseXml(xml)
  } catch (error) {
    if (!(error instanceof XmlError)) throw error
    throw new VirtError(ErrorCode.XML_ERROR, `XML error: ${error.message}`, { cause: error })
  }
}

/** @throws VirtError */
function permissionsOf(target: XmlElement | undefined): Permissions {
  const parent = target && childNamed(target, 'permissions')
  if (parent === undefined) return {}
  known(parent, ['mode', 'owner', 'group'])
  const permissions: Permissions = {}
  const mode = textAt(parent, 'mode')
  if (mode !== undefined) {
    if (!/^0*[0-7]{1,3}$/.test(mode)) throw wrong(`malformed octal mode '${mode}'`)
    permissions.mode = Number.parseInt(mode, 8)
  }
  for (const name of ['owner', 'group'] as const) {
    const text = textAt(parent, name)
    // -1 is whoever makes it.
    if (text === undefined || text === '-1') continue
    if (!/^\d{1,10}$/.test(text) || Number(text) >= 0xffff_ffff) {
      throw wrong(`malformed ${name} element '${text}': it is a number, or -1`)
    }
    permissions[name] = Number(text)
  }
  return permissions
}

function known(parent: XmlElement, names: readonly string[]): void {
  for (const { name, position } of childElements(parent)) {
    if (names.includes(name)) continue
    throw lacking(
      `<${name}> of <${parent.name}> (line ${position?.line}); known: ${names.join(', ')}`,
    )
  }
}

function textAt(parent: XmlElement, name: string): string | undefined {
  const child = childNamed(parent, name)
  return child && textOf(child).trim()
}

/** @throws VirtError for what is no folder's pool */
export function parsePool(xml: string): PoolDefinition {
  const root = read(xml)
  if (root.name !== 'pool') throw wrong(`unexpected root element <${root.name}>, expecting <pool>`)
  const type = attributeOf(root, 'type')
  if (type !== 'dir') throw lacking(`pool type '${type}'; folders (type 'dir') are there`)
  known(root, ['name', 'uuid', 'capacity', 'allocation', 'available', 'source', 'target'])
  const name = textAt(root, 'name')
  if (name === undefined || name === '') throw wrong('missing pool source name element')
  if (name.includes('/')) throw wrong(`name ${name} cannot contain '/'`)
  if (name.includes('\n') || name.startsWith('.')) {
    throw wrong(`name ${JSON.stringify(name)} of a pool: it is one line, and begins without '.'`)
  }
  const target = childNamed(root, 'target')
  if (target) known(target, ['path', 'permissions'])
  const path = target && textAt(target, 'path')
  if (path === undefined || !path.startsWith('/')) {
    throw wrong('missing storage pool target path: it is that of a folder and begins with /')
  }
  const permissions = permissionsOf(target)
  const uuid = textAt(root, 'uuid')?.toLowerCase()
  if (uuid === undefined) return { name, path, permissions }
  if (!/^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/.test(uuid))
    throw wrong(`malformed uuid '${uuid}'`)
  return { name, uuid, path, permissions }
}

function bytes(parent: XmlElement, name: string): number | undefined {
  const child = childNamed(parent, name)
  if (child === undefined) return undefined
  const unit = attributeOf(child, 'unit') ?? 'bytes'
  const factor = units[unit]
  if (factor === undefined) {
    throw wrong(`unknown unit '${unit}' of <${name}>; known: ${Object.keys(units).join(', ')}`)
  }
  const value = textOf(child).trim()
  const size = Number(value) * factor
  if (!/^\d+$/.test(value) || size > Number.MAX_SAFE_INTEGER) {
    throw wrong(`<${name}> '${value}': it is a number of ${unit}, at most 2^53 bytes`)
  }
  return size
}

function formatOf(parent: XmlElement | undefined, otherwise: string): string {
  const format = parent && childNamed(parent, 'format')
  return (format && attributeOf(format, 'type')) ?? otherwise
}

/** @throws VirtError */
export function parseVolume(xml: string): VolumeDefinition {
  const root = read(xml)
  if (root.name !== 'volume')
    throw wrong(`unexpected root element <${root.name}>, expecting <volume>`)
  known(root, [
    'name',
    'key',
    'source',
    'capacity',
    'allocation',
    'physical',
    'target',
    'backingStore',
  ])
  const target = childNamed(root, 'target')
  if (target) {
    known(target, [
      'path',
      'format',
      'permissions',
      'timestamps',
      'compat',
      'clusterSize',
      'features',
    ])
  }
  const format = formatOf(target, 'raw')
  if (format !== 'raw' && format !== 'qcow2') {
    throw lacking(`volume format '${format}'; raw and qcow2 are there`)
  }
  const store = childNamed(root, 'backingStore')
  const path = store && textAt(store, 'path')
  if (path !== undefined && format === 'raw') {
    throw lacking("a volume of format 'raw' with a backing store; qcow2 may have one")
  }
  const name = textAt(root, 'name')
  if (name === undefined || name === '') throw wrong('missing volume name element')
  const definition: VolumeDefinition = {
    name: checkVolumeName(name),
    format,
    permissions: permissionsOf(target),
    options: optionsOf(target, format),
  }
  const capacity = bytes(root, 'capacity')
  const allocation = bytes(root, 'allocation')
  if (capacity !== undefined) definition.capacity = capacity
  if (allocation !== undefined) definition.allocation = allocation
  if (path !== undefined) definition.backing = { path, format: formatOf(store, 'raw') }
  return definition
}

/** What only qcow2 has. A clone is described as its source, so that a raw one may be described by what it drops. */
function optionsOf(
  target: XmlElement | undefined,
  format: VolumeDefinition['format'],
): Readonly<Record<string, string>> {
  if (target === undefined || format === 'raw') return {}
  const options: Record<string, string> = {}
  const compat = textAt(target, 'compat')
  if (compat !== undefined) {
    if (compat !== '0.10' && compat !== '1.1') {
      throw wrong(`forbidden characters in 'compat' attribute: '${compat}'; expected 0.10 or 1.1`)
    }
    options['compat'] = compat
  }
  const cluster = bytes(target, 'clusterSize')
  if (cluster !== undefined) options['cluster_size'] = String(cluster)
  const features = childNamed(target, 'features')
  if (features === undefined) return options
  known(features, ['lazy_refcounts'])
  if (childNamed(features, 'lazy_refcounts') === undefined) return options
  if (compat === '0.10') throw lacking('lazy_refcounts not supported with compat level 0.10')
  return { ...options, lazy_refcounts: 'on' }
}
