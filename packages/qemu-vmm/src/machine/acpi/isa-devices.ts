import { FW_CFG_PORT, FW_CFG_PORTS } from '../../chipset/fw-cfg.ts'
import { HPET_BYTES } from '../../chipset/hpet/hpet.ts'
import { COM_PORTS } from '../../chipset/serial-port.ts'
import * as aml from './aml.ts'
import type { Aml } from './aml.ts'
import { fixedMemory, io, irqNoFlags, resourceTemplate } from './resources.ts'

/** The devices of old behind the ISA or LPC bridge. */
export function isaDevices(serialPorts: readonly number[]): Aml[] {
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
    ...serialPorts.map(serialDevice),
  ]
}

function serialDevice(port: number): Aml {
  const { base, irq } = COM_PORTS[port]!
  return aml.device(
    `COM${port + 1}`,
    aml.name('_HID', aml.eisaId('PNP0501')),
    aml.name('_UID', aml.int(port + 1)),
    aml.name('_STA', aml.int(0x0f)),
    aml.name('_CRS', resourceTemplate(io(base, 8), irqNoFlags(irq))),
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
