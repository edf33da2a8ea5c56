import { ahciTypes } from './ahci.ts'
import type { DeviceType } from './device-type.ts'
import { e1000 } from './e1000.ts'
import { e1000e } from './e1000e.ts'
import { floppy, isaFdc } from './floppy.ts'
import { ideCd, ideHd } from './ide.ts'
import { isaDebugExit, isaDebugcon } from './isa-debug.ts'
import { pcTestdev, pciTestdev } from './testdev.ts'
import { isaParallel } from './parallel.ts'
import { isaSerial } from './serial.ts'
import { pvpanic, pvpanicPci } from './pvpanic.ts'
import { vga } from './vga.ts'
import { pcieRootPort } from './root-port.ts'
import { rtl8139 } from './rtl8139.ts'
import { virtioBalloonPci } from './virtio-balloon.ts'
import { virtioBlkPci } from './virtio-blk.ts'
import { virtioNetPci } from './virtio-net.ts'
import { virtioRngPci } from './virtio-rng.ts'
import { virtconsole, virtioSerialPci, virtserialport } from './virtio-serial.ts'

/** All kinds of devices that can be plugged in; lists and documentation come from here. */
export const deviceTypes: readonly DeviceType[] = [
  pcieRootPort,
  virtioBlkPci,
  virtioNetPci,
  e1000,
  e1000e,
  rtl8139,
  ...ahciTypes,
  ideHd,
  ideCd,
  isaFdc,
  floppy,
  virtioSerialPci,
  virtconsole,
  virtserialport,
  vga,
  virtioRngPci,
  virtioBalloonPci,
  isaParallel,
  isaSerial,
  pvpanic,
  pvpanicPci,
  isaDebugExit,
  isaDebugcon,
  pcTestdev,
  pciTestdev,
]
