import {
  XmlError,
  assignAliases,
  checkKnown,
  domainArgv,
  factsOf as domainFactsOf,
  featuresOf,
  formatDomain as format,
  formatRunning,
  numberSources,
  parseDomain as parse,
  qemuKvmFeatures,
  readDomain,
} from '../domain/index.ts'
import type {
  ArgvOptions,
  DomainCommand,
  DomainFacts,
  EmulatorFeatures,
  FormatOptions,
  MachineType,
} from '../domain/index.ts'
import type * as domain from '../domain/index.ts'
import { VirtError } from '../rpc/index.ts'
import { devicesOf } from './emulator.ts'

// What the driver asks of the domain model, with errors as clients get them.

/** A definition that is complete. */
export type DomainDefinition = domain.DomainDefinition & { uuid: string }
export type { DomainFacts }

const BALLOON = 'virtio-balloon-pci'

/** What definitions are completed with. */
export interface ModelOptions {
  emulator: string
  machines: readonly MachineType[]
  /** Folder of variables of firmware. */
  stateDir: string
}

/**
 * Reads a definition, and completes it. With `validate` it may have no words that are not known.
 *
 * @throws VirtError with libvirt's code for what is wrong, or cannot be
 */
export function parseDomain(
  xml: string,
  options: ModelOptions,
  validate: boolean = false,
): DomainDefinition {
  return translate(() => {
    const definition = parse(xml, options)
    if (validate) checkKnown(definition)
    // The domain model gives every definition a UUID.
    return definition as DomainDefinition
  })
}

export function formatDomain(def: DomainDefinition, options: FormatOptions): string {
  return format(def, options)
}

/** A definition as it is kept. */
export const formatKept = (def: DomainDefinition): string =>
  format(def, { inactive: true, secure: true, migratable: false })

/** What a domain runs with: its definition, with the names that the emulator has for the devices. */
export function runningOf(def: DomainDefinition): DomainDefinition {
  const running = structuredClone(def)
  assignAliases(running)
  numberSources(running)
  return running
}

export { formatRunning }

/** Reads what {@link formatRunning} wrote. @throws VirtError */
export function parseRunning(xml: string): DomainDefinition {
  return runningOf(translate(() => readDomain(xml)) as DomainDefinition)
}

export function factsOf(def: DomainDefinition): DomainFacts {
  return domainFactsOf(def)
}

/** The command that starts a domain. Rejects with `VirtError` for what the emulator cannot be asked for. */
export async function commandOf(
  def: DomainDefinition,
  options: ArgvOptions,
): Promise<DomainCommand> {
  const emulator = factsOf(def).emulator
  const features = await featuresFor(emulator)
  const devices = features.tuning ? undefined : features.devices
  const balloon = def.devices?.memballoon
  if (balloon === undefined || balloon.model === 'none' || devices?.has(BALLOON) !== false) {
    return translate(() => domainArgv(def, { ...options, features }))
  }
  // Every definition gets a balloon. An emulator without one runs the guest all the same, with all of its memory.
  const without = { ...def, devices: { ...def.devices, memballoon: { model: 'none' as const } } }
  const command = translate(() => domainArgv(without, { ...options, features }))
  command.warnings.push(`no memory balloon: ${emulator} has no ${BALLOON}`)
  return command
}

/** What an emulator has: ours is asked which devices. */
export async function featuresFor(emulator: string | undefined): Promise<EmulatorFeatures> {
  const known = featuresOf(emulator ?? '')
  if (known !== qemuKvmFeatures || emulator === undefined) return known
  const devices = await devicesOf(emulator)
  return devices === undefined ? known : { ...known, devices }
}

/** How libvirt's messages begin. */
const KINDS: Readonly<Record<XmlError['libvirtCode'], string>> = {
  27: 'XML error',
  67: 'unsupported configuration',
  92: 'XML document failed to validate against schema',
}

/** Errors of the domain model as clients get them. */
export function translate<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof XmlError)) throw error
    const kind = KINDS[error.libvirtCode]
    throw new VirtError(error.libvirtCode, `${kind}: ${error.message}`, { cause: error })
  }
}
