import { PCI_HOLE_END } from '../chipset.ts'
import type { Aml } from './aml.ts'
import type { DsdtConfig } from './dsdt.ts'
import {
  dwordMemory,
  io,
  qwordMemory,
  resourceTemplate,
  wordBusNumber,
  wordIo,
} from './resources.ts'

/** What the PCI root passes on: buses, ports, and memory around configuration space. */
export function rootResources({ pciHoleStart, pciHole64, configWindow }: DsdtConfig): Aml {
  const lastBus = configWindow === undefined ? 0xff : configWindow.size / 0x10_0000 - 1
  return resourceTemplate(
    wordBusNumber(0x00, lastBus),
    io(0x0cf8, 8),
    wordIo(0x0000, 0x0cf7),
    wordIo(0x0d00, 0xffff),
    dwordMemory(0x000a_0000, 0x000b_ffff, true),
    ...memoryWindows(pciHoleStart, configWindow).map(({ start, end }) =>
      dwordMemory(start, end - 1, false),
    ),
    ...(pciHole64 === undefined ? [] : [qwordMemory(pciHole64.start, pciHole64.end - 1)]),
  )
}

/** The window for PCI memory below 4 GiB, without what configuration space takes of it. */
function memoryWindows(
  start: number,
  configWindow: DsdtConfig['configWindow'],
): { start: number; end: number }[] {
  const end = PCI_HOLE_END
  if (configWindow === undefined) return [{ start, end }]
  const { base, size } = configWindow
  const parts = [
    { start, end: Math.min(end, base) },
    { start: Math.max(start, base + size), end },
  ]
  return parts.filter((part) => part.start < part.end)
}
