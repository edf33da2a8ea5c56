import * as domain from './interim-domain.ts'
import type { DomainDefinition } from './interim-domain.ts'

// What the driver asks of the domain model; nothing else of it knows how a definition looks inside.

export type { DomainDefinition }

/** What the driver has to know of a definition. */
export interface DomainFacts {
  name: string
  uuid: string
  title: string | undefined
  description: string | undefined
  /** What the guest is given at most. */
  memoryKib: number
  currentMemoryKib: number
  maxVcpus: number
  vcpus: number
  osType: string
  onPoweroff: string
  onReboot: string
  onCrash: string
  emulator: string | undefined
  disks: readonly DiskFacts[]
  interfaces: readonly InterfaceFacts[]
  /** Whether there is anything that a console can be connected to. */
  hasCharacterDevice: boolean
}

export interface DiskFacts {
  /** `vda` */
  target: string
  /** The file or block device; undefined for an empty drive and other kinds. */
  path: string | undefined
  isReadOnly: boolean
  isShareable: boolean
}

export interface InterfaceFacts {
  mac: string
  target: string | undefined
  /** The network that it is connected to, if it is one that this daemon knows by name. */
  network: string | undefined
}

/** What is only known of a running domain. */
export interface LiveFacts {
  id: number
  /** Character devices of the emulator by name: `charserial0`, with the path of its terminal or socket. */
  terminals: ReadonlyMap<string, string>
}

export interface FormatOptions {
  inactive: boolean
  secure: boolean
  migratable: boolean
  live?: LiveFacts | undefined
}

export interface ArgvOptions {
  qmpSocket: string
  logFile: string
  stateDir: string
}

export const parseDomain = domain.parseDomain
export const formatDomain = domain.formatDomain
export const domainArgv = domain.domainArgv
export const factsOf = domain.factsOf
