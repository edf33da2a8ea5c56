import { readFileSync, readdirSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** What an image of firmware says of itself (QEMU, docs/interop/firmware.json). */
export interface FirmwareDescriptor {
  /** The file that says it. */
  readonly path: string
  /** `uefi`, `bios` */
  readonly interfaces: readonly string[]
  readonly executable: string
  readonly format: string
  /** Variables to begin with; missing for firmware that keeps none. */
  readonly template?: string
  /** In flash; otherwise a ROM. */
  readonly isFlash: boolean
  /** Patterns of machines for x86-64. */
  readonly machines: readonly string[]
  readonly features: ReadonlySet<string>
}

/** Where distributions, administrators and users put descriptors, in rising order of precedence. */
export function descriptorFolders(): string[] {
  const config = process.env['XDG_CONFIG_HOME'] ?? join(homedir(), '.config')
  return ['/usr/share/qemu/firmware', '/etc/qemu/firmware', join(config, 'qemu/firmware')]
}

/**
 * The descriptors of these folders in the order of their preference, which is that of their names. Of two with one name the
 * later folder's counts, and an empty one hides it. What cannot be read, or is none, is passed over.
 */
export function readDescriptors(folders: readonly string[]): FirmwareDescriptor[] {
  const paths = new Map<string, string>()
  for (const folder of folders) {
    for (const name of namesIn(folder)) {
      if (name.endsWith('.json')) paths.set(name, join(folder, name))
    }
  }
  return [...paths.keys()].toSorted().flatMap((name) => {
    const descriptor = readDescriptor(paths.get(name)!)
    return descriptor === undefined ? [] : [descriptor]
  })
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

interface Json {
  'interface-types'?: string[]
  mapping?: {
    device?: string
    filename?: string
    executable?: { filename?: string; format?: string }
    'nvram-template'?: { filename?: string }
  }
  targets?: { architecture?: string; machines?: string[] }[]
  features?: string[]
}

function readDescriptor(path: string): FirmwareDescriptor | undefined {
  try {
    const json = JSON.parse(readFileSync(path, 'utf8')) as Json
    const { mapping = {}, targets = [], features = [] } = json
    const isFlash = mapping.device === 'flash'
    const executable = isFlash ? mapping.executable?.filename : mapping.filename
    const template = mapping['nvram-template']?.filename
    if (executable === undefined || (!isFlash && mapping.device !== 'memory')) return undefined
    return {
      path,
      interfaces: json['interface-types'] ?? [],
      executable,
      format: mapping.executable?.format ?? 'raw',
      ...(template === undefined ? {} : { template }),
      isFlash,
      machines: targets.flatMap(({ architecture, machines = [] }) =>
        architecture === 'x86_64' ? machines : [],
      ),
      features: new Set(features),
    }
  } catch {
    return undefined
  }
}
