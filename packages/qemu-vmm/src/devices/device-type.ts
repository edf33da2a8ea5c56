import type { Stateful } from '../device.ts'
import type { PlugContext } from './plug-context.ts'

/** A property that `-device` takes. */
export interface PropertySpec {
  name: string
  /** As `-device X,help` shows it: `str`, `bool`, `uint16`, `drive`. */
  type: string
  help: string
  /** Shown as the default. */
  default?: string
}

/** A property of a device that runs. */
export interface DeviceProperty {
  /** In the words of QEMU's object model. */
  type: string
  /** Plain data. */
  get(): unknown
  /** Absent where it cannot be changed. Throws `E_DEVICE_OPTION` for what it cannot be. */
  set?(value: unknown): void
}

/** What a plugged device is to the machine. */
export interface PluggedDevice extends Stateful {
  /** Resolves when nothing that it started is under way any more; it starts nothing while it waits. */
  quiesce?(): Promise<void>
  /** The machine stands: nothing changes its memory until it is resumed. */
  pause?(): void
  /** Its state was loaded, or the machine goes on: looks at everything that it may have missed. */
  resume?(): void
  /** What can be asked of it, and changed, while it runs; by names of QEMU's object model. */
  readonly properties?: ReadonlyMap<string, DeviceProperty>
  /** Counters for the machine's statistics. */
  stats?(): Record<string, number>
  close?(): void
}

/** A device as options describe it. Plain data: it crosses into the isolate that runs devices. */
export interface DeviceOption {
  driver: string
  id?: string
  /** As typed, without `driver` and `id`. */
  properties: Readonly<Record<string, string>>
}

/** A kind of device that `-device` can name. */
export interface DeviceType {
  name: string
  /** The bus it is plugged into, for the list. */
  bus: 'PCI' | 'ISA' | 'IDE' | 'floppy-bus' | 'virtio-serial-bus'
  category:
    | 'Controller/Bridge/Hub devices'
    | 'Storage devices'
    | 'Input devices'
    | 'Display devices'
    | 'Network devices'
    | 'Misc devices'
  description: string
  properties: readonly PropertySpec[]
  /** It can be plugged in and taken out while the machine runs. */
  hotpluggable?: boolean
  /**
   * Creates the device and connects it, with the devices on the bus that it provides. Absent for
   * those: their bus plugs them in.
   * @throws VmmError `E_DEVICE_OPTION` for values that it cannot take
   */
  plug?(
    context: PlugContext,
    option: DeviceOption,
    children: readonly DeviceOption[],
  ): PluggedDevice
}
