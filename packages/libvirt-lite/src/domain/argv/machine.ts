import { basename, dirname, join } from 'node:path'
import { initialMemoryKib } from '../normalise/memory.ts'
import { chipsetOf } from '../normalise/machine.ts'
import type { Clock } from '../generated/model.ts'
import { featureProperty } from '../cpu-features.ts'
import { bootVcpus } from '../vcpus.ts'
import { notYet, only, onOff } from './command.ts'
import type { Command } from './command.ts'
import { hypervFlags } from './hyperv.ts'
import { addAlone, addMonitor } from './monitor.ts'

/** Machine, memory, processors, firmware, clock: all that is no device. */
export function addMachine(command: Command): void {
  const { def, options } = command
  only(def, '/domain', options.limits === true ? [...handled, ...limits] : handled)
  only(def.cputune, '/domain/cputune', [
    'shares',
    'period',
    'quota',
    'globalPeriod',
    'globalQuota',
    'vcpupins',
    'emulatorpin',
  ])
  only(def.memtune, '/domain/memtune', ['hardLimit', 'softLimit', 'swapHardLimit'])
  only(def.blkiotune, '/domain/blkiotune', ['weight'])
  only(def.vcpu, '/domain/vcpu', [
    'placement',
    'current',
    'value',
    ...(options.limits === true ? ['cpuset'] : []),
  ])
  command.addKeys('-name', '', { guest: def.name })
  if (options.qmpSocket !== undefined) command.add('-S')
  command.add('-uuid', def.uuid ?? '', '-no-user-config', '-nodefaults', '-display', 'none')
  addMemory(command)
  addCpu(command)
  if (options.qmpSocket === undefined) addAlone(command)
  else addMonitor(command, options.qmpSocket)
  addClock(command, def.clock)
  if (def.onReboot === 'destroy') command.add('-action', 'reboot=shutdown')
  addAcpi(command)
  addFirmware(command)
  addSysinfo(command)
  for (const label of def.seclabels ?? []) {
    if (label.type !== 'none') {
      throw notYet('/domain/seclabel', `there is no security driver "${label.model ?? ''}"`)
    }
  }
}

/** Properties of a definition that are used here, or need nothing of the emulator. */
const handled = [
  'type',
  'id',
  'name',
  'uuid',
  'title',
  'description',
  'metadata',
  'memory',
  'currentMemory',
  'memoryBacking',
  'vcpu',
  'vcpus',
  'os',
  'features',
  'cpu',
  'clock',
  'onPoweroff',
  'onReboot',
  'onCrash',
  'onLockfailure',
  'pm',
  'devices',
  'seclabels',
  'sysinfos',
  'qemuCommandline',
]

/** What is done to the process, by control groups and the scheduler. */
const limits = ['cputune', 'memtune', 'blkiotune']

function addMemory(command: Command): void {
  const { def } = command
  only(def.memory, '/domain/memory', ['unit', 'value', 'dumpCore'])
  const backing = def.memoryBacking
  const path = '/domain/memoryBacking'
  only(backing, path, ['source', 'access', 'allocation', 'hugepages'])
  if (backing?.hugepages?.pages?.length) {
    throw notYet(`${path}/hugepages/page`, 'the size of pages is what the host has by default')
  }
  const kib = Math.ceil(initialMemoryKib(def) / 1024) * 1024
  const machine: string[] = [
    def.os?.type?.machine ?? 'pc',
    `accel=${def.type === 'kvm' ? 'kvm' : 'tcg'}`,
    'usb=off',
    ...smmOf(command),
    ...dumpOf(command),
  ]
  if (backing !== undefined && Object.keys(backing).length > 0) {
    if (backing.source?.type === 'file') {
      throw notYet(`${path}/source`, 'expected type "memfd" or "anonymous"')
    }
    const memfd = backing.source?.type === 'memfd' || backing.hugepages !== undefined
    command.addKeys('-object', memfd ? 'memory-backend-memfd' : 'memory-backend-ram', {
      id: 'pc.ram',
      size: kib * 1024,
      share: onOff(backing.access?.mode === 'shared'),
      prealloc: onOff(backing.allocation?.mode === 'immediate'),
      hugetlb: backing.hugepages === undefined ? undefined : 'on',
    })
    machine.push('memory-backend=pc.ram')
  }
  command.add('-machine', machine.join(','), '-m', `size=${kib}k`)
}

/** Without a monitor the process is nobody's, or somebody else's, who knows what of it is to be kept. */
function dumpOf({ def, options }: Command): string[] {
  if (options.qmpSocket === undefined && def.memory?.dumpCore === undefined) return []
  return [`dump-guest-core=${onOff(def.memory?.dumpCore ?? false)}`]
}

function smmOf({ def }: Command): string[] {
  const { smm } = def.features ?? {}
  if (smm === undefined) return []
  only(smm, '/domain/features/smm', ['state'])
  return [`smm=${onOff(smm.state ?? true)}`]
}

function addCpu(command: Command): void {
  const { cpu = {}, vcpu, features, clock } = command.def
  const path = '/domain/cpu'
  only(cpu, path, ['mode', 'match', 'check', 'migratable', 'model', 'features', 'topology'])
  const kvm = command.def.type === 'kvm'
  const model =
    cpu.mode === 'custom'
      ? (cpu.model?.value ?? 'qemu64')
      : cpu.mode === 'maximum' || (cpu.mode === 'host-model' && !kvm)
        ? 'max'
        : 'host'
  const flags = (cpu.features ?? []).map(({ name, policy }) => {
    const off = policy === 'disable' || policy === 'forbid'
    return `${featureProperty(name).replaceAll(',', ',,')}=${off ? 'off' : 'on'}`
  })
  for (const timer of clock?.timers ?? []) {
    if (timer.name === 'kvmclock') flags.push(`kvmclock=${onOff(timer.present ?? true)}`)
  }
  only(features, '/domain/features', [
    'acpi',
    'apic',
    'pae',
    'hap',
    'vmport',
    'smm',
    'kvm',
    'hyperv',
  ])
  flags.push(...hypervFlags(command))
  if (features?.vmport?.state) throw notYet('/domain/features/vmport', 'expected state "off"')
  only(features?.kvm, '/domain/features/kvm', ['hidden'])
  if (features?.kvm?.hidden?.state) flags.push('kvm=off')
  command.add('-cpu', [model, ...flags].join(','))

  const most = vcpu?.value ?? 1
  const now = bootVcpus(command.def)
  const { sockets = most, dies = 1, cores = 1, threads = 1 } = cpu.topology ?? {}
  command.addKeys('-smp', `${now}`, {
    maxcpus: now === most ? undefined : most,
    sockets,
    dies: dies === 1 ? undefined : dies,
    cores,
    threads,
  })
}

/** What the real-time clock follows, by the words of domains. */
const RTC_CLOCKS: Readonly<Record<string, string>> = { guest: 'vm', wall: 'host', realtime: 'rt' }

function addClock(command: Command, clock: Clock | undefined): void {
  const path = '/domain/clock'
  const { track, tickpolicy } = clock?.timers?.find(({ name }) => name === 'rtc') ?? {}
  command.addKeys('-rtc', `base=${clockBase(command, clock)}`, {
    clock: track === undefined ? undefined : RTC_CLOCKS[track],
    driftfix: tickpolicy === 'catchup' ? 'slew' : undefined,
  })
  for (const [index, timer] of (clock?.timers ?? []).entries()) {
    const where = `${path}/timer[${index + 1}]`
    only(timer, where, [
      'name',
      'present',
      'tickpolicy',
      ...(timer.name === 'rtc' ? ['track'] : []),
    ])
    switch (timer.name) {
      case 'hpet':
        if (timer.present === false) command.add('-no-hpet')
        break
      case 'pit':
        if (timer.tickpolicy !== undefined && timer.tickpolicy !== 'catchup') {
          const policy = timer.tickpolicy === 'merge' ? 'discard' : timer.tickpolicy
          command.add('-global', `kvm-pit.lost_tick_policy=${policy}`)
        }
        break
      case 'rtc':
        if (timer.tickpolicy === 'merge' || timer.tickpolicy === 'discard') {
          throw notYet(`${where}/@tickpolicy`, 'expected one of delay, catchup')
        }
        if (timer.track === 'boot')
          throw notYet(`${where}/@track`, 'expected one of guest, wall, realtime')
        break
      case 'kvmclock':
      case 'hypervclock':
        break
      default:
        throw notYet(`${where}/@name`, `there is no timer "${timer.name}" yet`)
    }
  }
}

/** What the clock shows at the start. */
function clockBase({ result, options }: Command, clock: Clock | undefined): string {
  const path = '/domain/clock'
  const { offset = 'utc', timezone, start } = clock ?? {}
  const own = offset === 'variable' ? ['adjustment', 'basis'] : []
  only(clock, path, ['offset', 'timezone', 'start', 'timers', ...own])
  switch (offset) {
    case 'utc':
    case 'localtime':
      return offset
    case 'timezone':
      // What is local is the process's own business.
      if (timezone === undefined) throw notYet(`${path}/@timezone`, 'it is missing')
      result.env['TZ'] = timezone
      return 'localtime'
    case 'absolute':
      return timeAt(Number(start ?? 0) * 1000, `${path}/@start`)
    case 'variable': {
      const now = (options.now ?? Date.now)()
      // Local time is ahead of UTC where the offset is negative.
      const zoneMs = clock?.basis === 'localtime' ? -new Date(now).getTimezoneOffset() * 60_000 : 0
      return timeAt(now + zoneMs + Number(clock?.adjustment ?? 0) * 1000, `${path}/@adjustment`)
    }
  }
}

function timeAt(ms: number, path: string): string {
  if (!(ms >= 0 && ms < LAST_MS)) throw notYet(path, 'expected years 1970 to 9999')
  return new Date(ms).toISOString().slice(0, 19)
}

/** After it the clock would need five digits for the year. */
const LAST_MS = Date.UTC(10_000, 0, 1)

function addAcpi(command: Command): void {
  const { def } = command
  if (def.features?.acpi === undefined) command.add('-no-acpi')
  const chip = chipsetOf(def) === 'q35' ? 'ICH9-LPC' : 'PIIX4_PM'
  const sleep = { s3: def.pm?.suspendToMem, s4: def.pm?.suspendToDisk }
  for (const [state, setting] of Object.entries(sleep)) {
    if (setting === undefined) continue
    command.add('-global', `${chip}.disable_${state}=${setting.enabled ? 0 : 1}`)
  }
}

function addFirmware(command: Command): void {
  const { os = {} } = command.def
  const path = '/domain/os'
  only(os, path, [
    'type',
    'firmware',
    'firmwareFeatures',
    'loader',
    'nvram',
    'kernel',
    'initrd',
    'cmdline',
    'boots',
    'bootmenu',
    'bios',
    'smbios',
    'acpi',
  ])
  const { loader, nvram, bios, bootmenu } = os
  for (const { value } of os.acpi?.tables ?? []) {
    command.addKeys('-acpitable', 'sig=SLIC', { file: value })
  }
  if (os.firmware !== undefined && !loader?.value) {
    throw notYet(`${path}/@firmware`, 'nobody has chosen an image: name it in <loader>')
  }
  if (loader?.type === 'pflash') {
    command.addKeys('-drive', '', {
      file: loader.value,
      if: 'pflash',
      format: loader.format ?? 'raw',
      unit: 0,
      readonly: onOff(loader.readonly ?? false),
    })
    if (loader.secure) {
      command.add('-global', 'driver=cfi.pflash01,property=secure,value=on')
    }
    only(nvram, `${path}/nvram`, ['template', 'format', 'value'])
    if (nvram !== undefined) {
      command.addKeys('-drive', '', {
        file: nvram.value,
        if: 'pflash',
        format: nvram.format ?? 'raw',
        unit: 1,
      })
      const from = nvram.template ?? variablesOf(loader.value)
      if (from !== undefined) command.result.copies.push({ from, to: nvram.value })
    }
  } else if (loader !== undefined) {
    command.add('-bios', loader.value)
  }
  if (os.kernel !== undefined) command.add('-kernel', os.kernel)
  if (os.initrd !== undefined) command.add('-initrd', os.initrd)
  if (os.cmdline !== undefined) command.add('-append', os.cmdline)
  if (bios?.useserial)
    throw notYet(`${path}/bios/@useserial`, 'firmware is not on serial ports yet')
  command.addKeys('-boot', '', {
    menu: onOff(bootmenu?.enable),
    'splash-time': bootmenu?.enable ? bootmenu.timeout : undefined,
    'reboot-timeout': bios?.rebootTimeout,
    strict: 'on',
  })
}

function addSysinfo(command: Command): void {
  const { os, sysinfos = [] } = command.def
  const mode = os?.smbios?.mode ?? 'emulate'
  if (mode === 'host')
    throw notYet('/domain/os/smbios/@mode', 'tables of the host are not there yet')
  for (const sysinfo of sysinfos) {
    if (sysinfo.type === 'fwcfg') {
      for (const { name, file, value } of sysinfo.entries ?? []) {
        command.addKeys('-fw_cfg', '', { name, ...(file ? { file } : { string: value }) })
      }
      continue
    }
    if (mode === 'sysinfo') addSmbios(command, sysinfo)
  }
}

type Sysinfo = NonNullable<Command['def']['sysinfos']>[number]

function addSmbios(
  command: Command,
  { bios, system, baseBoards, chassis, oemStrings }: Sysinfo,
): void {
  const tables = [
    [0, bios],
    [1, system],
    ...(baseBoards ?? []).map((board) => [2, board] as const),
    [3, chassis],
  ] as const
  for (const [type, table] of tables) {
    if (table === undefined) continue
    const keys = (table.entries ?? []).map(({ name, value }) => [name ?? '', value] as const)
    command.addKeys('-smbios', `type=${type}`, Object.fromEntries(keys))
  }
  if (oemStrings === undefined) return
  const values = (oemStrings.entries ?? []).map(
    ({ value }) => `value=${value.replaceAll(',', ',,')}`,
  )
  command.add('-smbios', ['type=11', ...values].join(','))
}

/** The variables that come with firmware, as distributions name both: OVMF_CODE_4M.secboot.fd and OVMF_VARS_4M.fd. */
function variablesOf(code: string): string | undefined {
  const name = basename(code)
  const variables = name.replace('CODE', 'VARS').replace(/\.(secboot|ms|snakeoil)(?=\.)/, '')
  return variables === name ? undefined : join(dirname(code), variables)
}
