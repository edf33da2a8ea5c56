import { Rtl8139 } from '../chipset/rtl8139/rtl8139.ts'
import { plainCard } from './plain-card.ts'
import type { DeviceType } from './device-type.ts'

export const rtl8139: DeviceType = plainCard(
  'rtl8139',
  'Realtek Fast Ethernet (8139C+), for old guests',
  Rtl8139,
)
