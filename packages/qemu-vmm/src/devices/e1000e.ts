import { E1000e } from '../chipset/e1000e/e1000e.ts'
import { plainCard } from './plain-card.ts'
import type { DeviceType } from './device-type.ts'

export const e1000e: DeviceType = plainCard(
  'e1000e',
  'Intel Gigabit Ethernet on PCI Express (82574L), for guests without drivers for virtio',
  E1000e,
)
