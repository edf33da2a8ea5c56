import { assignAliases } from '../aliases.ts'
import { unsupported } from '../refuse.ts'
import type { DomainDefinition } from '../generated/model.ts'
import { difference } from './difference.ts'
import { toMachine } from './to-machine.ts'
import type { CommandReader, DomainMachine, MachineRequest } from './to-machine.ts'

/** Options that a definition can take back; names and meanings are those of `MachineConfig` of qemu-vmm. */
export interface ReturnedOptions {
  name?: string
  uuid?: string
  /** Bytes. */
  memory?: number
  cpus?: number | Processors
  kernel?: string
  initrd?: string
  append?: string
  rebootAction?: 'reset' | 'shutdown'
  shutdownAction?: 'poweroff' | 'pause'
  drives?: readonly Drive[]
}

interface Processors {
  cpus?: number
  sockets?: number
  dies?: number
  cores?: number
  threads?: number
  maxcpus?: number
}

interface Drive {
  id: string
  file?: string
  format?: 'raw' | 'qcow2'
  cache?: 'writeback' | 'none' | 'writethrough' | 'directsync' | 'unsafe'
  readOnly?: boolean
  discard?: 'ignore' | 'unmap'
}

/**
 * Makes a definition of a machine's options again, the opposite of {@link toMachine}. What options do not say comes from
 * the definition that went with them. Options that were changed since change it: name, UUID, memory, processors, kernel,
 * what a power-off and a reboot do, and images of disks; others are refused rather than lost.
 *
 * @param read as it was given to `toMachine`
 * @throws XmlError (67, CONFIG_UNSUPPORTED) that names the option which no definition can say
 */
export function fromMachine<Options extends object>(
  { options, definition }: Pick<DomainMachine<Options>, 'options' | 'definition'>,
  read: CommandReader<Options>,
  request: MachineRequest = {},
): DomainDefinition {
  const def = structuredClone(definition)
  const before: ReturnedOptions = toMachine(def, read, request).options
  const wanted: ReturnedOptions = spellOut(options)
  for (const take of edits) take(def, wanted, before)
  // What came of it tells whether all was taken.
  const path = difference(toMachine(def, read, request).options, wanted)
  if (path === undefined) return def
  throw unsupported(
    `unsupported: options.${path}: no definition says what it was changed to; change the definition instead, or give ` +
      'the option to the machine alone',
  )
}

/** A number of processors alone is that of cores, as QEMU 7.2 arranges them. */
function spellOut<Options extends ReturnedOptions>(options: Options): Options {
  const { cpus } = options
  if (typeof cpus !== 'number') return options
  return { ...options, cpus: { cpus, sockets: 1, cores: cpus, threads: 1 } }
}

type Edit = (def: DomainDefinition, wanted: ReturnedOptions, before: ReturnedOptions) => void

const edits: readonly Edit[] = [
  (def, { name, uuid }) => {
    if (name !== undefined) def.name = name
    if (uuid !== undefined) def.uuid = uuid
  },
  (def, { memory }, before) => {
    if (memory === undefined || memory === before.memory) return
    const value = memory / 1024
    def.memory = { ...def.memory, value, unit: 'KiB' }
    def.currentMemory = { ...def.currentMemory, value, unit: 'KiB' }
  },
  changeProcessors,
  (def, { kernel, initrd, append }, before) => {
    const changed = { kernel, initrd, cmdline: append }
    const same = { kernel: before.kernel, initrd: before.initrd, cmdline: before.append }
    for (const key of ['kernel', 'initrd', 'cmdline'] as const) {
      const value = changed[key]
      if (value === same[key]) continue
      def.os ??= {}
      if (value === undefined) delete def.os[key]
      else def.os[key] = value
    }
  },
  (def, { rebootAction, shutdownAction }, before) => {
    if (rebootAction !== before.rebootAction) {
      def.onReboot = rebootAction === 'shutdown' ? 'destroy' : 'restart'
    }
    if (shutdownAction !== before.shutdownAction) {
      def.onPoweroff = shutdownAction === 'pause' ? 'preserve' : 'destroy'
    }
  },
  changeDisks,
]

function changeProcessors(
  def: DomainDefinition,
  { cpus }: ReturnedOptions,
  before: ReturnedOptions,
): void {
  if (typeof cpus !== 'object' || difference(cpus, before.cpus) === undefined) return
  const { cpus: now = 1, maxcpus: value = now, sockets, dies = 1, cores, threads } = cpus
  // Processors that are told one by one are not guessed; what comes of it is refused then.
  def.vcpu = { ...def.vcpu, value }
  if (now === value) delete def.vcpu.current
  else def.vcpu.current = now
  if (sockets === undefined || cores === undefined || threads === undefined) return
  const isFlat = sockets === value && dies === 1 && cores === 1 && threads === 1
  if (!isFlat) def.cpu = { ...def.cpu, topology: { sockets, dies, cores, threads } }
  else if (def.cpu?.topology !== undefined) delete def.cpu.topology
}

/** Drives have the names of their disks; there are neither more nor fewer. */
function changeDisks(
  def: DomainDefinition,
  { drives = [] }: ReturnedOptions,
  before: ReturnedOptions,
): void {
  const named = structuredClone(def)
  assignAliases(named)
  const aliases = (named.devices?.disks ?? []).map(({ alias }) => `drive-${alias?.name ?? ''}`)
  for (const drive of drives) {
    const disk = def.devices?.disks?.[aliases.indexOf(drive.id)]
    const old = before.drives?.find(({ id }) => id === drive.id)
    if (disk === undefined || old === undefined) continue
    if (drive.file !== undefined && drive.file !== old.file) {
      const place = disk.type === 'block' ? 'dev' : 'file'
      disk.source = { ...disk.source, [place]: drive.file }
    }
    for (const [key, property] of [
      ['format', 'type'],
      ['cache', 'cache'],
      ['discard', 'discard'],
    ] as const) {
      if (drive[key] === old[key]) continue
      const driver: Record<string, unknown> = { ...disk.driver, [property]: drive[key] }
      if (drive[key] === undefined) delete driver[property]
      disk.driver = driver
    }
    if (drive.readOnly !== old.readOnly) {
      if (drive.readOnly === true) disk.readonly = true
      else delete disk.readonly
    }
  }
}
