import { versionText } from '../cli/version.ts'
import type { CpuInfo, MachineStatus } from '../machine/config.ts'
import type { DriveInfo } from '../machine/drive.ts'
import { formatJit } from './jit.ts'
import { BALLOON_INFO } from './balloon.ts'
import { MonitorError } from './command.ts'
import type { MonitorCommand, MonitorContext } from './command.ts'
import { HARDWARE_INFO } from './hardware-info.ts'
import { networkLines } from './network.ts'
import { PAGING_INFO } from './paging.ts'
import { PCI_INFO } from './pci.ts'
import { PROCESSOR_INFO } from './processors.ts'
import { blockDevices } from './qmp/block-devices.ts'
import type { BlockDevice } from './qmp/block-devices.ts'
import { formatStats } from './qmp/block-stats.ts'
import { formatRegisters } from './registers.ts'

/** States as `info status` names them. */
const STATUS: Readonly<Record<MachineStatus, string>> = {
  prelaunch: 'paused (prelaunch)',
  running: 'running',
  paused: 'paused',
  shutdown: 'paused (shutdown)',
  'internal-error': 'paused (internal-error)',
  'guest-panicked': 'paused (guest-panicked)',
  'io-error': 'paused (io-error)',
}

/** Counters of drives, as `info blockstats` shows them. */
const STAT_NAMES = (
  'rd_bytes wr_bytes rd_operations wr_operations flush_operations wr_total_time_ns rd_total_time_ns ' +
  'flush_total_time_ns rd_merged wr_merged idle_time_ns'
).split(' ')

const NIL_UUID = '00000000-0000-0000-0000-000000000000'

/** The words after `info`, but for some. */
const COMMANDS: readonly MonitorCommand[] = [
  BALLOON_INFO,
  ...HARDWARE_INFO,
  PROCESSOR_INFO,
  ...PAGING_INFO,
  {
    name: 'block',
    params: '',
    help: 'show the disk images and who has them',
    maxArgs: 0,
    run: async ({ machine }) => (await blockDevices(machine)).map(driveText).join('\n'),
  },
  {
    name: 'blockstats',
    params: '',
    help: 'show what has been asked of the disk images',
    maxArgs: 0,
    run: async ({ machine }) => lines((await blockDevices(machine)).map(statsText)),
  },
  {
    name: 'chardev',
    params: '',
    help: 'show the character devices',
    maxArgs: 0,
    run: ({ characters }) =>
      lines(characters.list().map(({ label, filename }) => `${label}: filename=${filename}`)),
  },
  {
    name: 'cpus',
    params: '',
    help: 'show the processors',
    maxArgs: 0,
    run: async ({ machine }) =>
      lines(
        (await machine.cpus()).map(
          (cpu, i) => `${i === 0 ? '*' : ' '} CPU #${cpu.index}:${cpu.halted ? ' (halted)' : ''}`,
        ),
      ),
  },
  {
    name: 'history',
    params: '',
    help: 'show the lines entered so far',
    maxArgs: 0,
    run: ({ history }) => lines(history().map((line, i) => `${i}: '${line}'`)),
  },
  {
    name: 'jit',
    params: '',
    help: 'show what the translator did',
    maxArgs: 0,
    run: async ({ machine }) => formatJit(await machine.stats()),
  },
  {
    name: 'network',
    params: '',
    help: 'show the networks and the cards that are connected to them',
    maxArgs: 0,
    run: async ({ machine }) => lines(networkLines(await machine.networks())),
  },
  {
    name: 'name',
    params: '',
    help: 'show the name of the machine',
    maxArgs: 0,
    run: ({ name }) => (name === undefined ? '' : `${name}\n`),
  },
  PCI_INFO,
  {
    name: 'registers',
    params: '[-a|vcpu]',
    help: 'show the registers of a processor (-a: of all)',
    maxArgs: 1,
    run: async ({ machine }, [which]) => {
      const cpus = selectCpus(await machine.cpus(), which)
      return cpus.map((cpu) => `\nCPU#${cpu.index}\n${formatRegisters(cpu)}`).join('')
    },
  },
  {
    name: 'status',
    params: '',
    help: 'show whether the machine runs',
    maxArgs: 0,
    run: ({ machine }: MonitorContext) => `VM status: ${STATUS[machine.status]}\n`,
  },
  {
    name: 'uuid',
    params: '',
    help: 'show the UUID of the machine',
    maxArgs: 0,
    run: ({ uuid }) => `${uuid ?? NIL_UUID}\n`,
  },
  {
    name: 'version',
    params: '',
    help: 'show the version of this program',
    maxArgs: 0,
    run: () => `${versionText()}\n`,
  },
]

/** The words after `info`, in alphabetical order. */
export const INFO_COMMANDS: readonly MonitorCommand[] = COMMANDS.toSorted((a, b) =>
  a.name < b.name ? -1 : 1,
)

function driveText({ backend, medium }: BlockDevice): string {
  const { name, qdev, isRemovable, isLocked, isTrayOpen = false } = backend
  const node = medium?.id ?? ''
  const title = name === '' ? node || (qdev ?? '') : name === node ? name : `${name} (${node})`
  return lines([
    medium === undefined ? `${name || (qdev ?? '')}: [not inserted]` : `${title}: ${image(medium)}`,
    ...(qdev === undefined ? [] : [`    Attached to:      ${qdev}`]),
    ...(isRemovable
      ? [
          `    Removable device: ${isLocked ? '' : 'not '}locked, tray ${isTrayOpen ? 'open' : 'closed'}`,
        ]
      : []),
    ...(medium === undefined ? [] : [`    Cache mode:       ${medium.cache ?? 'writeback'}`]),
  ])
}

function image({ file, format, readOnly }: DriveInfo): string {
  return `${file} (${format ?? 'by content'}${readOnly ? ', read-only' : ''})`
}

function statsText({ backend }: BlockDevice): string {
  const all = formatStats(backend.stats)
  const name = backend.name || (backend.node ?? backend.qdev ?? '')
  return `${name}:${STAT_NAMES.map((stat) => ` ${stat}=${String(all[stat] ?? 0)}`).join('')}`
}

function selectCpus(cpus: CpuInfo[], which: string | undefined): CpuInfo[] {
  if (which === '-a') return cpus
  if (which === undefined) return cpus.slice(0, 1)
  const index = /^[0-9]+$/.test(which) ? Number(which) : -1
  const cpu = cpus.find((candidate) => candidate.index === index)
  if (cpu === undefined) throw new MonitorError(`CPU#${which} not available`)
  return [cpu]
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join('')
}
