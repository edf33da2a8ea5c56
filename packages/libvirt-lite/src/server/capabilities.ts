import { featuresOf } from '../domain/index.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import { BASE } from '../driver/cpu.ts'
import type { CpuFacts } from '../driver/cpu.ts'
import { cpuModelsOf, cpusOf, isExecutable, machinesOf } from '../driver/emulator.ts'
import type { Machine } from '../driver/emulator.ts'
import { cpuFlags, hasKvm, hostInfo, hostUuid } from '../driver/host.ts'
import { firmwareKindsOf } from '../driver/settle-firmware.ts'
import type { ServerContext } from './context.ts'

const MAX_VCPUS = 255

const escape = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll("'", '&apos;')

/** What guests can be: only what works here is listed. */
export async function capabilitiesXml({ emulator }: ServerContext): Promise<string> {
  const { sockets, cores, threads, memoryKib, cpus } = hostInfo()
  const { vendor } = cpuFlags()
  const machines = (await machinesOf(emulator)).flatMap(machineLines)
  const kvm = hasKvm() ? ["      <domain type='kvm'/>"] : []
  const list = Array.from(
    { length: cpus },
    (_, id) => `          <cpu id='${id}' socket_id='0' core_id='${id}' siblings='${id}'/>`,
  )
  return [
    '<capabilities>',
    '',
    '  <host>',
    `    <uuid>${hostUuid()}</uuid>`,
    '    <cpu>',
    '      <arch>x86_64</arch>',
    `      <vendor>${vendor === 'AuthenticAMD' ? 'AMD' : 'Intel'}</vendor>`,
    `      <topology sockets='${sockets}' dies='1' cores='${cores}' threads='${threads}'/>`,
    "      <pages unit='KiB' size='4'/>",
    '    </cpu>',
    '    <power_management/>',
    '    <migration_features/>',
    '    <topology>',
    "      <cells num='1'>",
    "        <cell id='0'>",
    `          <memory unit='KiB'>${memoryKib}</memory>`,
    `          <cpus num='${cpus}'>`,
    ...list.map((line) => `  ${line}`),
    '          </cpus>',
    '        </cell>',
    '      </cells>',
    '    </topology>',
    '  </host>',
    '',
    '  <guest>',
    '    <os_type>hvm</os_type>',
    "    <arch name='x86_64'>",
    '      <wordsize>64</wordsize>',
    `      <emulator>${escape(emulator)}</emulator>`,
    ...machines,
    "      <domain type='qemu'/>",
    ...kvm,
    '    </arch>',
    '    <features>',
    "      <acpi default='on' toggle='yes'/>",
    "      <apic default='on' toggle='no'/>",
    '    </features>',
    '  </guest>',
    '',
    '</capabilities>',
    '',
  ].join('\n')
}

function machineLines({ name, alias }: Machine): string[] {
  const line = (text: string, canonical: string): string =>
    `      <machine${canonical} maxCpus='${MAX_VCPUS}'>${escape(text)}</machine>`
  const own = line(name, '')
  return alias === undefined ? [own] : [own, line(alias, ` canonical='${escape(name)}'`)]
}

interface Asked {
  emulator: string | undefined
  arch: string | undefined
  machine: string | undefined
  type: string | undefined
}

/** The kind of domain that is asked for: by default a common one. @throws VirtError for a kind that there is none of */
export async function kindOf(
  context: ServerContext,
  asked: Asked,
): Promise<{ emulator: string; type: 'kvm' | 'qemu'; machine: Machine }> {
  const emulator = asked.emulator ?? context.emulator
  if (asked.arch !== undefined && asked.arch !== 'x86_64') {
    throw invalid(`unknown architecture: ${asked.arch}, only x86_64 is there`)
  }
  if (!isExecutable(emulator)) throw invalid(`the emulator '${emulator}' cannot be executed`)
  const type = asked.type ?? (hasKvm() ? 'kvm' : 'qemu')
  if (type !== 'qemu' && !(type === 'kvm' && hasKvm())) {
    const why =
      type === 'kvm' ? 'KVM is not there: /dev/kvm cannot be opened' : `unknown virttype: ${type}`
    throw invalid(`${why}; use 'qemu'`)
  }
  const machines = await machinesOf(emulator)
  const wanted = asked.machine ?? 'pc'
  const machine = machines.find(({ name, alias }) => name === wanted || alias === wanted)
  if (machine === undefined) {
    throw invalid(`the machine '${wanted}' is not supported by emulator '${emulator}'`)
  }
  return { emulator, type, machine }
}

/** What a domain of one kind can have. @throws VirtError for a kind that there is none of */
export async function domainCapabilitiesXml(context: ServerContext, asked: Asked): Promise<string> {
  const { emulator, type, machine } = await kindOf(context, asked)
  const values = (name: string, list: readonly string[], indent: string): string[] => [
    `${indent}<enum name='${name}'>`,
    ...list.map((value) => `${indent}  <value>${value}</value>`),
    `${indent}</enum>`,
  ]
  const cpuModels = await cpuModelsOf(emulator)
  const cpus = await cpusOf(emulator, type)
  // Ours, which does not say, has only such that run everywhere.
  const otherwise = featuresOf(emulator).tuning ? 'unknown' : 'yes'
  const usable = (name: string): string => {
    const known = cpus?.usable.get(name)
    return known === undefined ? otherwise : known ? 'yes' : 'no'
  }
  const q35 = machine.name.includes('q35')
  const buses = q35 ? ['virtio', 'sata'] : ['fdc', 'ide', 'virtio']
  return [
    '<domainCapabilities>',
    `  <path>${escape(emulator)}</path>`,
    `  <domain>${type}</domain>`,
    `  <machine>${escape(machine.name)}</machine>`,
    '  <arch>x86_64</arch>',
    `  <vcpu max='${MAX_VCPUS}'/>`,
    "  <iothreads supported='no'/>",
    "  <os supported='yes'>",
    ...firmwareKinds(machine.name),
    "    <loader supported='yes'>",
    ...values('type', ['rom', 'pflash'], '      '),
    ...values('readonly', ['yes', 'no'], '      '),
    ...values('secure', q35 ? ['yes', 'no'] : ['no'], '      '),
    '    </loader>',
    '  </os>',
    '  <cpu>',
    "    <mode name='host-passthrough' supported='yes'/>",
    "    <mode name='maximum' supported='yes'/>",
    ...hostModelLines(cpus),
    "    <mode name='custom' supported='yes'>",
    ...cpuModels.map((name) => `      <model usable='${usable(name)}'>${escape(name)}</model>`),
    '    </mode>',
    '  </cpu>',
    '  <devices>',
    "    <disk supported='yes'>",
    ...values('diskDevice', ['disk', 'cdrom'], '      '),
    ...values('bus', buses, '      '),
    ...values('model', ['virtio', 'virtio-transitional', 'virtio-non-transitional'], '      '),
    '    </disk>',
    "    <graphics supported='no'/>",
    "    <video supported='yes'>",
    ...values('modelType', ['vga', 'none'], '      '),
    '    </video>',
    "    <hostdev supported='no'/>",
    "    <rng supported='yes'>",
    ...values('model', ['virtio', 'virtio-transitional', 'virtio-non-transitional'], '      '),
    ...values('backendModel', ['random'], '      '),
    '    </rng>',
    '  </devices>',
    '  <features>',
    "    <gic supported='no'/>",
    "    <vmcoreinfo supported='no'/>",
    "    <genid supported='no'/>",
    "    <backingStoreInput supported='no'/>",
    "    <backup supported='no'/>",
    "    <sev supported='no'/>",
    '  </features>',
    '</domainCapabilities>',
    '',
  ].join('\n')
}

/** What `<cpu mode='host-model'>` would come to. */
function hostModelLines(cpus: CpuFacts | undefined): string[] {
  if (cpus === undefined) return ["    <mode name='host-model' supported='no'/>"]
  return [
    "    <mode name='host-model' supported='yes'>",
    `      <model fallback='forbid'>${BASE}</model>`,
    ...cpus.hostModel.map(
      ({ policy, name }) => `      <feature policy='${policy}' name='${escape(name)}'/>`,
    ),
    '    </mode>',
  ]
}

function invalid(text: string): VirtError {
  return new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
}

/** Kinds of firmware that `<os firmware=>` can ask for on a machine. */
function firmwareKinds(machine: string): string[] {
  const kinds = firmwareKindsOf(machine)
  if (kinds.length === 0) return ["    <enum name='firmware'/>"]
  const values = kinds.map((kind) => `      <value>${kind}</value>`)
  return ["    <enum name='firmware'>", ...values, '    </enum>']
}
