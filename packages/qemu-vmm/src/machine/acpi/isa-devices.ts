import { FW_CFG_PORT, FW_CFG_PORTS } from '../../chipset/fw-cfg.ts'
import { FLOPPY_DMA, FLOPPY_IRQ, FLOPPY_PORT } from '../../chipset/floppy/controller.ts'
import { HPET_BYTES } from '../../chipset/hpet/hpet.ts'
import { COM_PORTS } from '../../chipset/serial-port.ts'
import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import { dma, fixedMemory, io, irqNoFlags, resourceTemplate } from './resources.ts'

/** A device at fixed ports that was plugged in. */
export type IsaDevice =
  | { kind: 'pvpanic'; base: number }
  | { kind: 'floppy' }
  | { kind: 'parallel' | 'serial'; index: number; base: number; irq: number }

/** A serial port in the place of COM1 to COM4, by number from 0. */
export function comPort(index: number): IsaDevice {
  return { kind: 'serial', index, ...COM_PORTS[index]! }
}

/** What the tables say about devices at fixed ports. */
export interface IsaConfig {
  /** Those that were plugged in, and the board's serial ports. */
  isaDevices?: readonly IsaDevice[]
}

/** The devices of old behind the ISA or LPC bridge. */
export function isaDevices({ isaDevices: plugged = [] }: IsaConfig): Aml[] {
  return [
    aml.device(
      'RTC',
      aml.name('_HID', aml.eisaId('PNP0B00')),
      aml.name('_CRS', resourceTemplate(io(0x0070, 8), irqNoFlags(8))),
    ),
    aml.device(
      'KBD',
      aml.name('_HID', aml.eisaId('PNP0303')),
      aml.name('_STA', aml.int(0x0f)),
      aml.name('_CRS', resourceTemplate(io(0x0060, 1), io(0x0064, 1), irqNoFlags(1))),
    ),
    aml.device(
      'MOU',
      aml.name('_HID', aml.eisaId('PNP0F13')),
      aml.name('_STA', aml.int(0x0f)),
      aml.name('_CRS', resourceTemplate(irqNoFlags(12))),
    ),
    ...plugged.map(pluggedDevice),
  ]
}

function pluggedDevice(device: IsaDevice): Aml {
  switch (device.kind) {
    case 'pvpanic':
      return panicDevice(device.base)
    case 'floppy':
      return aml.device(
        'FDC0',
        aml.name('_HID', aml.eisaId('PNP0700')),
        aml.name(
          '_CRS',
          resourceTemplate(
            io(FLOPPY_PORT + 2, 4),
            io(FLOPPY_PORT + 7, 1),
            irqNoFlags(FLOPPY_IRQ),
            dma(FLOPPY_DMA),
          ),
        ),
      )
    case 'serial':
      return aml.device(
        `COM${device.index + 1}`,
        aml.name('_HID', aml.eisaId('PNP0501')),
        aml.name('_UID', aml.int(device.index + 1)),
        aml.name('_STA', aml.int(0x0f)),
        aml.name('_CRS', resourceTemplate(io(device.base, 8), irqNoFlags(device.irq))),
      )
    case 'parallel':
      return aml.device(
        `LPT${device.index + 1}`,
        aml.name('_HID', aml.eisaId('PNP0400')),
        aml.name('_UID', aml.int(device.index + 1)),
        aml.name('_STA', aml.int(0x0f)),
        aml.name('_CRS', resourceTemplate(io(device.base, 8), irqNoFlags(device.irq))),
      )
  }
}

/** Drivers find the register by this device, or call its methods. */
function panicDevice(base: number): Aml {
  return aml.device(
    'PEVT',
    aml.name('_HID', aml.string('QEMU0001')),
    aml.name('_STA', aml.int(0x0f)),
    aml.name('_CRS', resourceTemplate(io(base, 1))),
    aml.operationRegion('PEOR', aml.REGION_SYSTEM_IO, base, 1),
    aml.byteFields('PEOR', [['PEPT', 8]]),
    aml.method('RDPT', 0, false, aml.ret(aml.path('PEPT'))),
    aml.method('WRPT', 1, false, aml.store(aml.arg(0), aml.path('PEPT'))),
  )
}

/** The timer block, which is on no bus. */
export function timerBlock(base: number): Aml {
  return aml.device(
    'HPET',
    aml.name('_HID', aml.eisaId('PNP0103')),
    aml.name('_UID', aml.int(0)),
    aml.name('_STA', aml.int(0x0f)),
    aml.name('_CRS', resourceTemplate(fixedMemory(base, HPET_BYTES))),
  )
}

/** The ports of fw_cfg: drivers find them by this device alone. */
export function firmwareConfig(): Aml {
  return aml.device(
    'FWCF',
    aml.name('_HID', aml.string('QEMU0002')),
    aml.name('_STA', aml.int(0x0b)),
    aml.name('_CRS', resourceTemplate(io(FW_CFG_PORT, FW_CFG_PORTS))),
  )
}
