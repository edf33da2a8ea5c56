import { E1000 } from '../chipset/e1000/e1000.ts'
import { plainCard } from './plain-card.ts'
import type { DeviceType } from './device-type.ts'

export const e1000: DeviceType = plainCard(
  'e1000',
  'Intel Gigabit Ethernet (82540EM), for guests without drivers for virtio',
  E1000,
)
