import type { DeviceOption } from '../devices/device-type.ts'
import type { AddressRange } from '../machine/address-ranges.ts'
import type { PciFunctionInfo } from '../machine/pci-info.ts'
import type { MonitorCommand } from './command.ts'
import { className } from './qmp/pci-queries.ts'

/** The words after `info` for what the machine is built of. */
export const HARDWARE_INFO: readonly MonitorCommand[] = [
  {
    name: 'irq',
    params: '',
    help: 'show how often devices have raised each interrupt line',
    maxArgs: 0,
    run: async ({ machine }) => {
      const rises = await machine.manage('irqRises')
      const lines = rises.map(([gsi, count]) => `${String(gsi).padStart(2)}: ${count}\n`)
      return `IRQ statistics for the lines of devices:\n${lines.join('')}`
    },
  },
  {
    name: 'mtree',
    params: '',
    help: 'show what answers at which addresses and ports',
    maxArgs: 0,
    run: async ({ machine }) => {
      const ranges = await machine.manage('addressRanges')
      return (['memory', 'I/O'] as const)
        .map((space) => {
          const lines = ranges.filter((range) => range.space === space).map(rangeText)
          return `address-space: ${space}\n${lines.join('')}`
        })
        .join('\n')
    },
  },
  {
    name: 'qtree',
    params: '',
    help: 'show the devices by their buses, with the options that they were given',
    maxArgs: 0,
    run: async ({ machine }) => {
      const functions = await machine.manage('pci')
      const options = await machine.devices()
      return busText(functions, options) + restText(options)
    },
  },
]

function rangeText({ base, length, priority, kind, name }: AddressRange): string {
  return `  ${hex(base, 16)}-${hex(base + length - 1, 16)} (prio ${priority}, ${kind}): ${name}\n`
}

/** A PCI bus, and what is behind its bridges. */
function busText(
  functions: readonly PciFunctionInfo[],
  options: readonly DeviceOption[],
  name: string = rootName(options),
  indent: string = '',
): string {
  const devices = functions.map((fn) => {
    const option = optionOf(fn, name, options)
    const inner = `${indent}    `
    const behind = fn.bridge
    return [
      `${indent}  dev: ${option?.driver ?? title(fn)}, id "${option?.id ?? ''}"\n`,
      ...propertyLines(option, inner),
      `${inner}addr = ${hex(fn.slot, 2)}.${fn.functionNumber}\n`,
      `${inner}class ${title(fn)}, addr ${hex(fn.bus, 2)}:${hex(fn.slot, 2)}.${fn.functionNumber}, ${ids(fn)}\n`,
      ...fn.regions.map(({ bar, space, base, size }) => {
        const at = base === undefined ? 'nowhere' : `0x${hex(base, 1)}`
        return `${inner}bar ${bar}: ${space === 'pio' ? 'i/o' : 'mem'} at ${at} [0x${hex(size, 1)} bytes]\n`
      }),
      behind === undefined ? '' : busText(behind.devices, options, option?.id ?? 'pci', inner),
    ].join('')
  })
  return `${indent}bus: ${name}\n${indent}  type PCI\n${devices.join('')}`
}

/** What is not on PCI: on the ISA bus, at disk controllers, on buses that cards provide. */
function restText(options: readonly DeviceOption[]): string {
  const rest = options.filter(({ properties }) => properties['addr'] === undefined)
  if (rest.length === 0) return ''
  const lines = rest.map(
    (option) =>
      `  dev: ${option.driver}, id "${option.id ?? ''}"\n${propertyLines(option, '    ').join('')}`,
  )
  return `not on PCI\n${lines.join('')}`
}

function propertyLines(option: DeviceOption | undefined, indent: string): string[] {
  return Object.entries(option?.properties ?? {})
    .filter(([name]) => name !== 'addr')
    .map(([name, value]) => `${indent}${name} = "${value}"\n`)
}

function optionOf(
  fn: PciFunctionInfo,
  bus: string,
  options: readonly DeviceOption[],
): DeviceOption | undefined {
  const addr = `${hex(fn.slot, 1)}.${fn.functionNumber}`
  return options.find(({ properties }) => properties['bus'] === bus && properties['addr'] === addr)
}

function rootName(options: readonly DeviceOption[]): string {
  return options.some(({ properties }) => properties['bus'] === 'pcie.0') ? 'pcie.0' : 'pci.0'
}

function title({ classCode }: PciFunctionInfo): string {
  return className(classCode) ?? `Class ${hex(classCode, 4)}`
}

function ids({ vendor, device, subsystem }: PciFunctionInfo): string {
  const own = `pci id ${hex(vendor, 4)}:${hex(device, 4)}`
  if (subsystem === undefined) return own
  return `${own} (sub ${hex(subsystem.vendor, 4)}:${hex(subsystem.device, 4)})`
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0')
}
