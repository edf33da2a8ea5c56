import type { PciFunctionInfo } from '../machine/pci-info.ts'
import type { MonitorCommand } from './command.ts'
import { className } from './qmp/pci-queries.ts'

/** The word after `info`. */
export const PCI_INFO: MonitorCommand = {
  name: 'pci',
  params: '',
  help: 'show the devices on PCI buses',
  maxArgs: 0,
  run: async ({ machine }) => (await machine.manage('pci')).map(functionText).join(''),
}

function functionText(fn: PciFunctionInfo): string {
  const { bus, slot, functionNumber, classCode, subsystem, bridge } = fn
  const kind = className(classCode) ?? `Class ${String(classCode).padStart(4, '0')}`
  const lines = [
    `  Bus ${String(bus).padStart(2)}, device ${String(slot).padStart(3)}, function ${functionNumber}:`,
    `    ${kind}: PCI device ${hex(fn.vendor, 4)}:${hex(fn.device, 4)}`,
  ]
  if (subsystem !== undefined) {
    lines.push(`      PCI subsystem ${hex(subsystem.vendor, 4)}:${hex(subsystem.device, 4)}`)
  }
  if (fn.interruptPin > 0) {
    lines.push(`      IRQ ${fn.interruptLine}, pin ${'ABCD'.charAt(fn.interruptPin - 1)}`)
  }
  if (bridge !== undefined) {
    const range = ({ base, limit }: { base: number; limit: number }, digits: number): string =>
      `[0x${hex(base, digits)}, 0x${hex(limit, digits)}]`
    lines.push(
      `      BUS ${bridge.primary}.`,
      `      secondary bus ${bridge.secondary}.`,
      `      subordinate bus ${bridge.subordinate}.`,
      `      IO range ${range(bridge.io, 4)}`,
      `      memory range ${range(bridge.memory, 8)}`,
      `      prefetchable memory range ${range(bridge.prefetchable, 8)}`,
    )
  }
  for (const { bar, space, base, size, prefetchable, is64 } of fn.regions) {
    const at = base === undefined ? 'f'.repeat(16) : hex(base, space === 'pio' ? 4 : 8)
    // As in QEMU the end of what is nowhere is counted from -1.
    const digits = space === 'pio' ? 4 : 8
    const end = hex(base === undefined ? size - 2 : base + size - 1, digits)
    const what =
      space === 'pio' ? 'I/O' : `${is64 ? 64 : 32} bit${prefetchable ? ' prefetchable' : ''} memory`
    lines.push(`      BAR${bar}: ${what} at 0x${at} [0x${end}].`)
  }
  lines.push(`      id "${fn.id}"`)
  const behind = bridge === undefined || bridge.secondary === 0 ? [] : bridge.devices
  return lines.map((line) => `${line}\n`).join('') + behind.map(functionText).join('')
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0')
}
