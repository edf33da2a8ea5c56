import type { DomainDefinition } from './generated/model.ts'

/** What whoever runs domains has to know of one. */
export interface DomainFacts {
  name: string
  uuid: string
  title: string | undefined
  description: string | undefined
  memoryKib: number
  currentMemoryKib: number
  maxVcpus: number
  vcpus: number
  osType: string
  onPoweroff: string
  onReboot: string
  onCrash: string
  emulator: string | undefined
  disks: readonly {
    target: string
    /** The file or block device; undefined for an empty drive and other kinds. */
    path: string | undefined
    isReadOnly: boolean
    isShareable: boolean
  }[]
  interfaces: readonly {
    mac: string
    target: string | undefined
    /** The network that it is connected to by name. */
    network: string | undefined
  }[]
  /** Whether there is anything that a console can be connected to. */
  hasCharacterDevice: boolean
}

/** The facts of a definition that is complete. */
export function factsOf(def: DomainDefinition): DomainFacts {
  const { devices = {}, vcpu, memory } = def
  return {
    name: def.name,
    uuid: def.uuid ?? '',
    title: def.title,
    description: def.description,
    memoryKib: memory?.value ?? 0,
    currentMemoryKib: def.currentMemory?.value ?? memory?.value ?? 0,
    maxVcpus: vcpu?.value ?? 1,
    vcpus: vcpu?.current ?? vcpu?.value ?? 1,
    osType: def.os?.type?.value ?? 'hvm',
    onPoweroff: def.onPoweroff ?? 'destroy',
    onReboot: def.onReboot ?? 'restart',
    onCrash: def.onCrash ?? 'destroy',
    emulator: devices.emulator,
    disks: (devices.disks ?? []).map(({ target, source, readonly, shareable }) => ({
      target: target?.dev ?? '',
      path: source?.file ?? source?.dev,
      isReadOnly: readonly ?? false,
      isShareable: shareable ?? false,
    })),
    interfaces: (devices.interfaces ?? []).map(({ mac, target, source }) => ({
      mac: mac?.address ?? '',
      target: target?.dev,
      network: source?.network,
    })),
    hasCharacterDevice: (devices.serials ?? []).length + (devices.consoles ?? []).length > 0,
  }
}
