import { didYouMean } from '../../xml/suggest.ts'
import type { DomainOptions, MachineType } from '../options.ts'
import { defaultMachines } from '../options.ts'
import { refusal, unsupported } from '../refuse.ts'
import { features } from '../schema/features.ts'
import type { ElementSpec, Model } from '../schema/types.ts'
import type { DomainDefinition } from '../generated/model.ts'

/** The chipsets that addresses are known for. */
export type Chipset = 'i440fx' | 'q35' | 'other'

/** The chipset of a definition whose machine is known. */
export function chipsetOf({ os }: DomainDefinition): Chipset {
  const machine = os?.type?.machine ?? ''
  if (/^pc(-i440fx-|-\d|$)/.test(machine)) return 'i440fx'
  return /^(pc-)?q35(-|$)/.test(machine) ? 'q35' : 'other'
}

/** Kind of machine, boot order, firmware, and what happens at the end. */
export function normaliseMachine(def: DomainDefinition, options: DomainOptions): void {
  const { os } = def
  if (os?.type === undefined) {
    throw refusal('is missing: it says what kind of guest it is, <type>hvm</type>', {
      at: os ?? def,
      below: os === undefined ? '/os/type' : '/type',
    })
  }
  if (os.type.value !== 'hvm') {
    throw unsupported('expected "hvm", other guests need another hypervisor', {
      at: os.type,
      value: os.type.value,
    })
  }
  os.type.arch ??= 'x86_64'
  if (os.type.arch !== 'x86_64' && os.type.arch !== 'i686') {
    throw unsupported('expected one of x86_64, i686', {
      at: os.type,
      below: '/@arch',
      value: os.type.arch,
    })
  }
  const machines = options.machines ?? defaultMachines
  os.type.machine = resolveMachine(os.type.machine ?? 'pc', machines, os.type)
  normaliseFirmware(def, options)
  normaliseBoot(def)
}

function resolveMachine(name: string, machines: readonly MachineType[], at: object): string {
  const found = machines.find((machine) => machine.name === name || machine.alias === name)
  if (found !== undefined) return found.name
  const names = machines.flatMap((machine) => [machine.alias ?? [], machine.name].flat())
  const list = names.length > 12 ? '' : `, expected one of ${names.join(', ')}`
  throw unsupported(`the emulator has no such machine${list}${didYouMean(name, names)}`, {
    at,
    below: '/@machine',
    value: name,
  })
}

function normaliseFirmware(def: DomainDefinition, options: DomainOptions): void {
  const { os } = def
  const { loader } = os ?? {}
  if (os === undefined) return
  if (loader !== undefined && loader.value === '' && os.firmware === undefined) {
    throw refusal('is empty: it is the path of the firmware', { at: loader })
  }
  if (loader !== undefined && loader.value !== '') loader.type ??= 'rom'
  const flash = loader?.type === 'pflash'
  if ((flash || os.firmware === 'efi') && def.features?.acpi === undefined) {
    throw unsupported('UEFI needs <features><acpi/></features>', { at: os })
  }
  if (loader?.secure) {
    if (chipsetOf(def) !== 'q35') {
      throw unsupported('Secure boot is supported with q35 machine types only', { at: loader })
    }
    const smm = def.features?.smm
    // With firmware that is still to be found the mode comes on with it, where it is not off.
    if (smm?.state === false || (smm === undefined && os.firmware === undefined)) {
      throw unsupported('Secure boot requires SMM feature enabled: <features><smm/></features>', {
        at: loader,
      })
    }
  }
  const separate = flash && loader?.readonly === true
  if (separate && (os.nvram === undefined || os.nvram.value === '')) {
    const folder = options.stateDir ?? '/var/lib/libvirt/qemu'
    os.nvram = { ...os.nvram, value: `${folder}/nvram/${def.name}_VARS.fd` }
  }
}

function normaliseBoot(def: DomainDefinition): void {
  const { os, devices } = def
  if (os === undefined) return
  const bootable = [
    ...(devices?.disks ?? []),
    ...(devices?.interfaces ?? []),
    ...(devices?.hostdevs ?? []),
    ...(devices?.redirdevs ?? []),
  ].filter(({ boot }) => boot !== undefined)
  const orders = new Set<number>()
  for (const { boot } of bootable) {
    if (boot === undefined) continue
    if (orders.has(boot.order)) {
      throw refusal('another device has the same place', {
        at: boot,
        below: '/@order',
        value: boot.order,
      })
    }
    orders.add(boot.order)
  }
  if (bootable.length > 0 && (os.boots ?? []).length > 0) {
    throw unsupported(
      'devices have an order of their own, which cannot be used together with <boot dev=…>',
      { at: os, below: '/boot' },
    )
  }
  if (bootable.length === 0 && (os.boots ?? []).length === 0) os.boots = [{ dev: 'hd' }]
  if (os.bios?.useserial && (devices?.serials ?? []).length === 0) {
    throw refusal('needs a serial port', { at: os.bios, below: '/@useserial', value: 'yes' })
  }
}

/** Clock and life cycle. */
export function normaliseLife(def: DomainDefinition): void {
  def.clock ??= { offset: 'utc' }
  if (def.clock.offset === 'variable') {
    if (def.clock.adjustment === undefined || def.clock.adjustment === 'reset') {
      def.clock.adjustment = '0'
    }
    def.clock.basis ??= 'utc'
  }
  def.onPoweroff ??= 'destroy'
  def.onReboot ??= 'restart'
  def.onCrash ??= 'destroy'
  if (def.features?.hyperv !== undefined) def.features.hyperv.mode ??= 'custom'
  normaliseFeatures(def)
  for (const label of def.seclabels ?? []) {
    if (label.type === 'none') label.model ??= 'none'
  }
}

/** A feature that says neither on nor off is on; those of Hyper-V and KVM have to say it. */
function normaliseFeatures({ features: given }: DomainDefinition): void {
  if (given === undefined) return
  const model = given as Model
  for (const child of features.children) {
    const value = model[child.key]
    if (child.kind !== 'one' || value === undefined) continue
    if (hasState(child.element)) (value as Model)['state'] ??= true
    for (const inner of child.element.children) {
      const below = (value as Model)[inner.key]
      if (inner.kind !== 'one' || below === undefined || !hasState(inner.element)) continue
      if ((below as Model)['state'] === undefined) {
        throw refusal('is missing, expected one of on, off', {
          at: below as object,
          below: '/@state',
        })
      }
    }
  }
}

function hasState({ attributes }: ElementSpec): boolean {
  return attributes.some(({ name }) => name === 'state')
}
