import type { GuestMemory } from 'kvm-core'
import type { LinkSide } from 'virtio'

import type { FwCfgFile } from '../chipset/fw-cfg.ts'
import type { AtaBus } from '../chipset/ide/bus.ts'
import type { DmaControllers } from '../chipset/i8237.ts'
import type { AcpiPciHotplug } from '../chipset/pci/acpi-hotplug.ts'
import type { PciHost } from '../chipset/pci/host.ts'
import type { SendMessage } from '../chipset/pci/msix.ts'
import type { PanicListener } from '../chipset/pvpanic.ts'
import type { SerialBackend } from '../chipset/serial-port.ts'
import type { VideoMemory } from '../chipset/vga/video-memory.ts'
import type { Clock, Entropy } from '../device.ts'
import type { IsaDevice } from '../machine/acpi/isa-devices.ts'
import type { MediaDevice } from '../machine/block-backend.ts'
import type { BootIndex } from '../machine/boot-index.ts'
import type { Display } from '../display/display.ts'
import type { Bus } from '../machine/bus.ts'
import type { Drive } from '../machine/drive.ts'
import type { IoEvents } from '../machine/io-events.ts'
import type { IrqLines } from '../machine/irq.ts'
import type { Latches } from '../machine/port-latch.ts'
import type { NetworkCard } from '../net/config.ts'
import type { EntropySource } from '../objects/rng.ts'
import type { PluggedDevice } from './device-type.ts'
import type { FloppySlot } from './floppy.ts'
import type { PciSegment } from './pci-address.ts'
import type { BalloonSlot } from './virtio-balloon.ts'
import type { PlugLife } from './plug-place.ts'

/** What a plugged device is built from. */
export interface PlugContext extends PlugLife {
  readonly bus: Bus
  readonly pci: PciHost
  /** The buses by the names that `bus=` has for them, the first one first; ports add theirs. */
  readonly pciBuses: Map<string, PciSegment>
  /** Who has the physical slots of PCI Express, by chassis and number. */
  readonly chassisSlots: Map<number, string>
  /** Takes over the buses behind ports; absent where ports have hot-plug of their own. */
  readonly acpiHotplug?: AcpiPciHotplug
  /** Takes the `bootindex` of devices. */
  readonly bootIndex: BootIndex
  /** Where disks are plugged in that are neither on PCI nor virtio; controllers add theirs. */
  readonly ataBuses: AtaBus[]
  /** Screens plugged so far; the first one is the machine's. */
  readonly displays: Display[]
  /** Memory of a device that the guest may see as RAM. */
  createVideoMemory(size: number): VideoMemory
  /** Where the user has firmware, before the folders of distributions. */
  readonly firmwareFolders: readonly string[]
  /** Option ROMs that firmware gets as files rather than in BARs; devices add theirs. */
  readonly optionRoms: FwCfgFile[]
  /** The machine starts with firmware rather than a kernel. */
  readonly runsFirmware: boolean
  readonly irqs: IrqLines
  /** Where reads of some ports are answered without an exit; absent where nowhere. */
  readonly latches?: Latches
  readonly memory: GuestMemory
  readonly ioEvents: IoEvents
  /** By what native code reaches the machine: of `Vm.nativeCalls`. Absent where there is none. */
  readonly nativeCalls?: unknown
  readonly sendMessage: SendMessage
  /** vCPUs: as many request queues pay. */
  readonly cpus: number
  readonly clock: Clock
  readonly entropy: Entropy
  /** Devices plugged so far, by id. */
  readonly devices: ReadonlyMap<string, PluggedDevice>
  /** Takes a drive for a device. Throws `E_DEVICE_OPTION` when there is none or it is taken. */
  drive(id: string, owner: string): Drive
  /**
   * Takes a drive, which may be empty, for a device whose medium can be changed; without an id it has no
   * medium yet. Throws `E_DEVICE_OPTION` as `drive`, and what the device says of the medium.
   */
  removable(id: string | undefined, owner: string, media: MediaDevice): void
  /** Takes a character device. Throws `E_DEVICE_OPTION` when there is none or it is taken. */
  chardev(id: string, owner: string): SerialBackend
  /** Takes the end of a network's cable. Throws `E_DEVICE_OPTION` when there is none or it is taken. */
  netdev(id: string, card: NetworkCard): LinkSide
  /** The address of the next network card that is given none, 6 bytes. */
  nextMac(): Uint8Array
  /** Takes an object that has random bytes. Throws `E_CONFIG` when there is none. */
  rng(id: string): EntropySource
  readonly dma: DmaControllers
  readonly floppy: FloppySlot
  readonly balloon: BalloonSlot
  /** The balloon has so many pages of 4 KiB now. */
  balloonChanged(pages: number): void
  /** Takes what the guest tells of its own death. */
  readonly panic: PanicListener
  /** Devices at fixed ports that ACPI tables describe; devices add themselves. */
  readonly isaDevices: IsaDevice[]
  log(message: string): void
  /** Ends the machine with this status. */
  exit(code: number): void
}
