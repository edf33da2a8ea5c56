import { totalmem } from 'node:os'

import { HPET_MAX_TIMERS, HPET_MIN_TIMERS } from '../chipset/hpet/hpet.ts'
import { VmmError, formatBytes } from '../errors.ts'
import type { MachineConfig } from './config.ts'
import { checkAcpiTables } from './acpi/user-tables.ts'
import { checkBootOptions } from './boot-options.ts'
import { checkObjects } from './object-check.ts'
import { FLASH_CHIPS } from './flash-image.ts'
import { MACHINE_TYPES, machineKind } from './machine-type.ts'
import { createMemoryMap } from './memory-map.ts'
import { checkSmbios } from './smbios/options.ts'
import { isUuid } from './uuid.ts'
import { resolveTopology } from './topology.ts'

const KEYS: readonly (keyof MachineConfig)[] = [
  'name',
  'uuid',
  'memory',
  'objects',
  'memoryBackend',
  'machine',
  'accel',
  'tcg',
  'cpu',
  'cpus',
  'bios',
  'flash',
  'firmwareFolders',
  'boot',
  'optionRoms',
  'kernel',
  'initrd',
  'append',
  'serial',
  'onlyConnectedSerial',
  'drives',
  'chardevs',
  'netdevs',
  'fwCfg',
  'acpiTables',
  'smbios',
  'plug',
  'rebootAction',
  'shutdownAction',
  'panicAction',
  'devices',
  'host',
  'startPaused',
  'clock',
  'entropy',
  'log',
  'logItems',
]
const CHOICES = {
  accel: ['auto', 'kvm', 'tcg', 'kvm:tcg'],
  rebootAction: ['reset', 'shutdown'],
  shutdownAction: ['poweroff', 'pause'],
  panicAction: ['pause', 'shutdown', 'exit-failure', 'none'],
  host: ['inline', 'worker'],
} as const
const LOG_ITEMS: readonly string[] = ['guest_errors', 'unimp']
const MACHINE_OPTIONS: readonly string[] = [
  'acpi',
  'pit',
  'hpet',
  'hpetTimers',
  'hpetMsi',
  'suspend',
  'acpiPciHotplug',
  'pitLostTicks',
  'rtcBase',
  'rtcClock',
  'rtcDriftFix',
  'graphics',
  'smm',
  'smbaseSmram',
  'secureFlash',
]
const SERIAL_PORTS = 4
/** The real-time clock has two digits for the century. */
const RTC_END_MS = Date.UTC(10_000, 0, 1)

/** Throws `E_CONFIG`, or a more precise code, for a configuration that cannot work. */
export function checkConfig(config: MachineConfig): void {
  for (const key of Object.keys(config)) {
    if (!(KEYS as readonly string[]).includes(key)) {
      throw bad(`there is no machine option '${key}'; did you mean '${nearest(key, KEYS)}'?`)
    }
  }
  checkMachine(config)
  createMemoryMap(config.memory, machineKind(config.machine).board)
  if (config.memory > totalmem()) {
    throw new VmmError(
      'E_MEMORY_SIZE',
      `guest memory of ${formatBytes(config.memory)} is more than this host has, ` +
        `${formatBytes(totalmem())}; ask for less`,
      { fields: { memory: config.memory, host: totalmem() } },
    )
  }
  for (const [key, choices] of Object.entries(CHOICES)) {
    const value = config[key as keyof typeof CHOICES]
    if (value !== undefined && !(choices as readonly string[]).includes(value)) {
      throw bad(`${key} is '${value}'; it can be ${choices.join(', ')}`)
    }
  }
  for (const item of config.logItems ?? []) {
    if (!LOG_ITEMS.includes(item)) {
      throw bad(`there is no log item '${item}'; it can be ${LOG_ITEMS.join(', ')}`)
    }
  }
  if (config.tcg !== undefined && config.accel === 'kvm') {
    throw bad("tcg has wishes for an engine that 'kvm' is not; leave them out")
  }
  checkObjects(config)
  resolveTopology(config.cpus ?? 1, machineKind(config.machine).name)
  if (config.uuid !== undefined && !isUuid(config.uuid)) {
    throw bad(`'${config.uuid}' is not a UUID such as 123e4567-e89b-12d3-a456-426614174000`)
  }
  checkSmbios(config.smbios ?? [])
  checkAcpiTables(config.acpiTables ?? [])
  if (config.serial !== undefined && config.serial.length > SERIAL_PORTS) {
    throw bad(`${config.serial.length} serial ports are given; a PC has ${SERIAL_PORTS}`)
  }
  checkFlash(config)
  if (config.kernel === undefined) {
    const orphan = config.initrd === undefined ? config.append && 'append' : 'initrd'
    if (orphan) throw bad(`${orphan} needs a kernel; give one`)
  }
  checkBootOptions(config.boot ?? {})
  checkIsolate(config)
}

function checkFlash({ flash = [], drives = [], bios }: MachineConfig): void {
  if (flash.length > FLASH_CHIPS) throw bad(`there can be ${FLASH_CHIPS} flash chips`)
  for (const [unit, id] of flash.entries()) {
    if (id === undefined || drives.some((drive) => drive.id === id)) continue
    throw bad(`flash chip ${unit} is drive '${id}', and there is none`)
  }
  const [first, second] = flash
  if (first === undefined) {
    if (second === undefined) return
    throw bad('flash chip 1 keeps variables for firmware in flash chip 0; give that, too')
  }
  if (bios !== undefined) throw bad('the firmware is in flash chip 0; give one of bios and flash')
}

function checkMachine({ machine }: MachineConfig): void {
  if (machine === undefined) return
  if (!MACHINE_TYPES.includes(machine.type)) {
    const close = nearest(machine.type, MACHINE_TYPES)
    throw bad(`there is no machine type '${machine.type}'; did you mean '${close}'?`)
  }
  for (const option of Object.keys(machine.options ?? {})) {
    if (MACHINE_OPTIONS.includes(option)) continue
    throw bad(`machine type '${machine.type}' has no option '${option}'; remove it`)
  }
  const timers = machine.options?.hpetTimers ?? HPET_MIN_TIMERS
  if (!(Number.isInteger(timers) && timers >= HPET_MIN_TIMERS && timers <= HPET_MAX_TIMERS)) {
    throw bad(`hpetTimers is ${timers}; it can be ${HPET_MIN_TIMERS} to ${HPET_MAX_TIMERS}`)
  }
  const { rtcClock = 'host', rtcDriftFix = 'none' } = machine.options ?? {}
  if (!['host', 'rt', 'vm'].includes(rtcClock)) {
    throw bad(`rtcClock is ${rtcClock}; it can be host, rt or vm`)
  }
  if (!['none', 'slew'].includes(rtcDriftFix)) {
    throw bad(`rtcDriftFix is ${rtcDriftFix}; it can be none or slew`)
  }
  const base = machine.options?.rtcBase ?? 'utc'
  const isTime = typeof base === 'number' && base >= 0 && base < RTC_END_MS
  if (!isTime && base !== 'utc' && base !== 'localtime') {
    throw bad(`rtcBase is ${base}; it can be utc, localtime, or milliseconds from 1970 to 9999`)
  }
}

function checkIsolate(config: MachineConfig): void {
  if (config.host !== 'worker') return
  for (const device of config.devices ?? []) {
    if (device instanceof URL) continue
    throw bad(
      `device ${device.name} is an object, which cannot move to the worker; put it in a module ` +
        `and give its URL, or use host: 'inline'`,
    )
  }
  for (const key of ['clock', 'entropy'] as const) {
    if (config[key] !== undefined) {
      throw bad(`${key} cannot move to the worker; use it with host: 'inline'`)
    }
  }
}

function bad(message: string): VmmError {
  return new VmmError('E_CONFIG', message)
}

/** The choice with the fewest edits to `value`. */
export function nearest(value: string, choices: readonly string[]): string {
  let best = choices[0] ?? ''
  let least = Infinity
  for (const choice of choices) {
    const distance = editDistance(value.toLowerCase(), choice.toLowerCase())
    if (distance < least) {
      least = distance
      best = choice
    }
  }
  return best
}

/** Levenshtein distance. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1))
    }
    row = next
  }
  return row[b.length]!
}
