import { join } from 'node:path'
import { featuresOf, qemuFeatures } from '../domain/index.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import { descriptorFolders, readDescriptors } from './firmware-descriptors.ts'
import type { FirmwareDescriptor } from './firmware-descriptors.ts'
import { factsOf } from './model.ts'
import type { DomainDefinition } from './model.ts'

/** What firmware may require: others, such as encrypted memory, are not here. */
const HAVE = new Set(['requires-smm'])

/**
 * A definition whose firmware is named: where it asks for a kind (`<os firmware='efi'>`), the first image that has what it
 * asks for, with variables in `nvram`, and with system management mode where the image needs that.
 *
 * @throws VirtError `OPERATION_FAILED` where there is no such image
 */
export function settleFirmware(
  definition: DomainDefinition,
  nvram: string,
  folders: readonly string[] = descriptorFolders(),
): DomainDefinition {
  const { os, features = {} } = definition
  const { loader } = os ?? {}
  if (os?.firmware === undefined || (loader !== undefined && loader.value !== '')) return definition
  const found = readDescriptors(folders).find((one) => suits(one, definition))
  if (found === undefined) {
    throw new VirtError(
      ErrorCode.OPERATION_FAILED,
      `Unable to find '${os.firmware}' firmware that is compatible with the current configuration: install ` +
        `${os.firmware === 'efi' ? "the package 'ovmf'" : "the package 'seabios'"}, or name it in <loader>`,
    )
  }
  const smm = found.features.has('requires-smm')
  const settled = { ...definition, os: { ...os }, features: { ...features } }
  settled.os.loader = found.isFlash
    ? {
        ...loader,
        readonly: true,
        ...(smm ? { secure: true } : {}),
        type: 'pflash',
        ...(found.format === 'qcow2' ? { format: 'qcow2' } : {}),
        value: found.executable,
      }
    : { ...loader, type: 'rom', value: found.executable }
  const value = variablesOf(definition, nvram)
  if (found.template !== undefined && value !== undefined) {
    settled.os.nvram = { ...os.nvram, template: os.nvram?.template ?? found.template, value }
  }
  if (smm) settled.features.smm = { state: true }
  return settled
}

/** The file with the variables of a domain's firmware: that of the definition, or its own one in `nvram`. */
export function variablesOf({ name, os }: DomainDefinition, nvram: string): string | undefined {
  const own = os?.nvram?.value
  if (own !== undefined && own !== '') return own
  return os?.firmware === 'efi' ? join(nvram, `${name}_VARS.fd`) : undefined
}

/** What `<os firmware=>` finds images for on a machine. */
export function firmwareKindsOf(
  machine: string,
  folders: readonly string[] = descriptorFolders(),
): ('bios' | 'efi')[] {
  const images = readDescriptors(folders).filter(({ machines }) =>
    machines.some((pattern) => matches(machine, pattern)),
  )
  const has = (kind: string): boolean => images.some(({ interfaces }) => interfaces.includes(kind))
  return [...(has('bios') ? (['bios'] as const) : []), ...(has('uefi') ? (['efi'] as const) : [])]
}

function suits(descriptor: FirmwareDescriptor, definition: DomainDefinition): boolean {
  const { os = {}, features: wanted = {}, type, pm } = definition
  const { features, interfaces, isFlash } = descriptor
  const kind = os.firmware === 'efi' ? 'uefi' : 'bios'
  if (!interfaces.includes(kind)) return false
  const machine = os.type?.machine ?? 'pc'
  if (!descriptor.machines.some((pattern) => matches(machine, pattern))) return false
  for (const feature of features) {
    if (feature.startsWith('requires-') && !HAVE.has(feature)) return false
  }
  const smm = features.has('requires-smm')
  // The host's KVM has no system management mode here; QEMU has.
  const { emulator } = factsOf(definition)
  const hasSmm = type !== 'kvm' || (emulator !== undefined && featuresOf(emulator) === qemuFeatures)
  if (smm && (!hasSmm || wanted.smm?.state === false || os.loader?.secure === false)) return false
  if (os.loader?.secure === true && !smm) return false
  if (os.loader?.type !== undefined && (os.loader.type === 'pflash') !== isFlash) return false
  if (pm?.suspendToMem?.enabled === true && !features.has('acpi-s3')) return false
  if (pm?.suspendToDisk?.enabled === true && !features.has('acpi-s4')) return false
  return (os.firmwareFeatures?.features ?? []).every(
    ({ name, enabled }) => features.has(name) === enabled,
  )
}

/** A machine against a pattern with `*` and `?`. */
function matches(machine: string, pattern: string): boolean {
  const source = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, String.raw`\$&`)
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${source}$`).test(machine)
}
