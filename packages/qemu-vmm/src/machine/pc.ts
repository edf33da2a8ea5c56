import type { GuestMemory } from 'kvm-core'

import type { AcpiPm } from '../chipset/acpi-pm.ts'
import { HPET_BASE, HPET_BYTES, Hpet } from '../chipset/hpet/hpet.ts'
import { I8042 } from '../chipset/i8042.ts'
import { DmaControllers } from '../chipset/i8237.ts'
import type { PciHost } from '../chipset/pci/host.ts'
import type { SendMessage } from '../chipset/pci/msix.ts'
import type { ShadowControl } from '../chipset/pci/pam.ts'
import { Rtc } from '../chipset/rtc.ts'
import type { RtcOptions } from '../chipset/rtc.ts'
import { COM_PORTS, LINE_STATUS, SerialPort, TRANSMITTER } from '../chipset/serial-port.ts'
import type { SerialBackend } from '../chipset/serial-port.ts'
import { Port92, ResetControl } from '../chipset/small-ports.ts'
import type { BalloonSlot } from '../devices/virtio-balloon.ts'
import { KeyQueue } from '../display/key-queue.ts'
import type { Display } from '../display/display.ts'
import type { SmmControl } from '../chipset/smm.ts'
import type { Clock, DeviceContext, DeviceDefinition, IoHandler, Stateful } from '../device.ts'
import { VmmError } from '../errors.ts'
import { comPort } from './acpi/isa-devices.ts'
import type { IsaDevice } from './acpi/isa-devices.ts'
import { RESET_PORT, SMI_COMMAND_PORT } from './acpi/tables.ts'
import { Bus } from './bus.ts'
import { PCI_HOLE_END } from './chipset.ts'
import type { Chipset, ChipsetParts } from './chipset.ts'
import type { CpuPlaces } from './cpu-places.ts'
import { setCpuCmos, setMemoryCmos } from './cmos.ts'
import { mapCustomDevice } from './custom-device.ts'
import { createI440fx } from './i440fx-chipset.ts'
import type { IrqLines } from './irq.ts'
import type { BoardKind } from './machine-type.ts'
import type { MemoryMap } from './memory-map.ts'
import type { Latches } from './port-latch.ts'
import type { PostGates } from './post-gate.ts'
import { createQ35 } from './q35-chipset.ts'

/** Firmware shows its progress here, and Linux writes to it to wait: nothing answers. */
export const POST_PORT = 0x80
const CHIPSETS: Readonly<Record<BoardKind, (parts: ChipsetParts) => Chipset>> = {
  i440fx: createI440fx,
  q35: createQ35,
}

/** Interrupts that comparators of the HPET may be routed to, as QEMU has it. */
const HPET_ROUTES: Readonly<Record<BoardKind, number>> = { i440fx: 0x04, q35: 0xff_0104 }

/** The timer block, where the board has one. */
export interface HpetOptions {
  /** Comparators, 3 to 32; 3 by default. */
  timers?: number
  /** Comparators can send messages. */
  msi?: boolean
}

/** What the board's devices do to the machine. */
export interface BoardActions {
  reset(): void
  powerOff(): void
  suspend(): void
  wake(): void
  /** The guest has set its clock, which is ahead by so many seconds of what it would have been. */
  clockSet(seconds: number): void
}

/** Parts that the board is built from. */
export interface BoardConfig {
  /** `i440fx` by default. */
  kind?: BoardKind
  irqs: IrqLines
  clock: Clock
  map: MemoryMap
  /** For the devices of the board that are bus masters. */
  memory: GuestMemory
  /** The processors, and the places for more. */
  places: CpuPlaces
  serial: readonly (SerialBackend | undefined)[]
  /** Only serial ports with something behind them: others were plugged in. By default there is a first one. */
  onlyConnected?: boolean
  /** Carries messages of the board's own functions; without it they are lost. */
  sendMessage?: SendMessage
  /** Absent on a board without HPET. */
  hpet?: HpetOptions
  /** What drives the real-time clock. */
  rtc?: RtcOptions
  /** Cuts the PIT's interrupt off, or connects it again. */
  setPit?(connected: boolean): void
  /** Where reads of some ports are answered without an exit; by default nowhere. */
  latches?: Latches
  /** Where the guest may run on behind what it writes to some ports; by default nowhere. */
  postGates?: PostGates
  /** Makes the host bridge's attribute map take effect. */
  shadow?: ShadowControl
  /** Absent on a machine without system management mode. */
  smm?: SmmControl
  /** The mode may have the RAM around the first SMBASE to itself, as by default (q35). */
  smbaseSmram?: boolean
  /** Slots of PCI Express are filled and emptied by ACPI, as by default, rather than by their ports. */
  portsByAcpi?: boolean
  /** By default it has ACPI. */
  hasAcpi?: boolean
  actions: BoardActions
}

/** The board of a PC: a chipset, which one the machine says, and the devices of old. */
export class PcBoard {
  readonly bus: Bus = new Bus()
  readonly kind: BoardKind
  readonly chipset: Chipset
  readonly hpet: Hpet | undefined
  readonly rtc: Rtc
  readonly i8042: I8042
  readonly dma: DmaControllers
  /** What is typed on the keyboard. */
  readonly keys: KeyQueue
  /** Screens that were plugged in. */
  readonly displays: Display[] = []
  /** The one that was plugged in. */
  readonly balloon: BalloonSlot = {}
  /** What tables say about devices at fixed ports: serial ports, and what was plugged in. */
  readonly isaDevices: IsaDevice[] = []
  /** By number, where the board has one. */
  readonly serial: readonly (SerialPort | undefined)[]
  readonly #shadow: ShadowControl | undefined
  readonly #irqs: IrqLines
  readonly #pciHoleStart: number
  #isPciReset = false
  readonly #devices = new Map<string, Stateful>()

  constructor(config: BoardConfig) {
    const { irqs, clock, actions } = config
    this.#irqs = irqs
    this.#pciHoleStart = config.map.pciHoleStart
    const { pio } = this.bus
    const line = (gsi: number): ReturnType<IrqLines['source']> => irqs.source(gsi)

    this.kind = config.kind ?? 'i440fx'
    const { memory, shadow, smm, sendMessage = () => true } = config
    const { hpet, setPit = () => {} } = config
    const routes = HPET_ROUTES[this.kind]
    const unknown = this.bus.unknownOf('hpet')
    this.hpet =
      hpet === undefined
        ? undefined
        : new Hpet({ ...hpet, routes, clock, line, sendMessage, setPit, unknown })
    this.rtc = new Rtc(this.hpet?.rtcLine ?? line(8), clock, config.rtc)
    this.rtc = new Rtc(this.hpet?.rtcLine ?? line(8), clock)
    this.rtc.onSet = (seconds) => actions.clockSet(seconds)
    setMemoryCmos(this.rtc, config.map)
    const { latches = () => () => {}, postGates } = config
    setCpuCmos(this.rtc, config.places.present.length)
    this.i8042 = new I8042({
      keyboardIrq: line(1),
      mouseIrq: line(12),
      reset: actions.reset,
      status: latches(0x64),
      unknown: this.bus.unknownOf('i8042'),
    })
    this.keys = new KeyQueue(this.i8042.keyboard, clock)
    this.#shadow = config.shadow
    const chipset = CHIPSETS[this.kind]({
      bus: this.bus,
      irqs,
      clock,
      memory,
      actions,
      sendMessage,
      cpus: config.places,
      hasAcpi: config.hasAcpi ?? true,
      portsByAcpi: (config.hasAcpi ?? true) && (config.portsByAcpi ?? true),
      smbaseSmram: config.smbaseSmram ?? true,
      ...(shadow === undefined ? {} : { shadow }),
      ...(smm === undefined ? {} : { smm }),
    })
    this.chipset = chipset
    this.rtc.onAlarm = () => chipset.pm.rtcAlarm()
    this.serial = COM_PORTS.slice(0, Math.max(1, config.serial.length)).map(({ irq, base }, i) =>
      config.onlyConnected === true && config.serial[i] === undefined
        ? undefined
        : new SerialPort(
            line(irq),
            clock,
            config.serial[i],
            latches(base + LINE_STATUS),
            postGates?.(base + TRANSMITTER),
          ),
    )

    const dma = new DmaControllers(memory)
    this.dma = dma
    const port92 = new Port92(actions.reset, latches(0x92))
    const resetControl = new ResetControl((hard) => {
      if (hard) this.resetPci()
      actions.reset()
    })
    const byte = { max: 1 } as const
    const at = (name: string, base: number, len: number, handler: IoHandler): void => {
      pio.map({ name, base, len, handler, access: byte })
    }
    for (const [base, len] of [
      [0x00, 0x10],
      [0x81, 0x0f],
      [0xc0, 0x20],
    ] as const) {
      pio.map({ name: 'dma', base, len, origin: 0, handler: dma, access: byte })
    }
    at('rtc', 0x70, 2, this.rtc)
    // The index cannot be read, but firmware does it again and again.
    latches(0x70)(0xff)
    if (this.hpet !== undefined) {
      const place = { name: 'hpet', base: HPET_BASE, len: HPET_BYTES }
      this.bus.mmio.map({ ...place, handler: this.hpet })
    }
    for (const base of [0x60, 0x64]) {
      pio.map({ name: 'i8042', base, len: 1, origin: 0x60, handler: this.i8042, access: byte })
    }
    at('port92', 0x92, 1, port92)
    at('apm', SMI_COMMAND_PORT, 2, this.pm.apm)
    for (const [i, { base }] of COM_PORTS.entries()) {
      const port = this.serial[i]
      if (port === undefined) continue
      at(`serial${i}`, base, 8, port.uart)
      this.isaDevices.push(comPort(i))
    }
    // What it is for is the access to the data port that follows. A byte within is the reset control register.
    const { addressPort } = this.pci
    pio.map({ name: 'pci-address', base: 0xcf8, len: 4, posted: 4, handler: addressPort })
    pio.map({ name: 'pci-data', base: 0xcfc, len: 4, handler: this.pci.dataPort })
    pio.map({
      name: 'reset-control',
      base: RESET_PORT,
      len: 1,
      priority: 1,
      handler: resetControl,
      access: byte,
    })

    this.#add('irq-lines', irqs)
    this.#add('rtc', this.rtc)
    if (this.hpet !== undefined) this.#add('hpet', this.hpet)
    this.#add('i8042', this.i8042)
    this.#add('acpi-pm', this.pm)
    this.#add('pci', this.pci)
    for (const [name, device] of chipset.devices) this.#add(name, device)
    this.#add('dma', dma)
    this.#add('port92', port92)
    this.#add('reset-control', resetControl)
    for (const [i, port] of this.serial.entries()) {
      if (port !== undefined) this.#add(`serial${i}`, port.uart)
    }
  }

  get pci(): PciHost {
    return this.chipset.pci
  }

  get pm(): AcpiPm {
    return this.chipset.pm
  }

  /** Tells firmware of the next start how many processors there are. */
  setCpuCount(count: number): void {
    setCpuCmos(this.rtc, count)
    this.onCpuCount(count)
  }

  /** Told of that number when it changes. */
  onCpuCount: (count: number) => void = () => {}

  /** How often devices have raised each interrupt line. */
  irqRises(): [gsi: number, count: number][] {
    return this.#irqs.rises()
  }

  /** The machine goes on. */
  resume(): void {
    this.chipset.resume()
  }

  /** Creates a custom device and maps its ranges. */
  addCustomDevice(definition: DeviceDefinition, context: Omit<DeviceContext, 'irq'>): void {
    this.#add(definition.name, mapCustomDevice(this.bus, this.#irqs, definition, context))
  }

  /** Adds a device that has found its own place on a bus. */
  addPlugged(name: string, device: Stateful): void {
    this.#add(name, device)
  }

  /** Such a device is gone. */
  removePlugged(name: string): void {
    this.#devices.delete(name)
  }

  /** The reset that follows is one of PCI as well, as by the button. */
  resetPci(): void {
    this.#isPciReset = true
  }

  /** Power-on state of all devices. */
  reset(): void {
    this.#shadow?.restore()
    this.keys.clear()
    // One that is reset may let others go.
    for (const device of this.#devices.values()) device.reset()
    if (this.#isPciReset) this.chipset.hideRam()
    this.#isPciReset = false
  }

  /** Programs what firmware would have programmed before it starts a kernel. */
  applyFirmwareSetup(): void {
    this.chipset.setUp({ start: this.#pciHoleStart, end: PCI_HOLE_END })
    for (const display of this.displays) display.setTextMode()
    // Self-test, then translation and the keyboard interrupt on: Linux keeps to what it finds.
    this.i8042.write(4, 1, 0xaa)
    this.i8042.read(0)
    this.i8042.write(4, 1, 0x60)
    this.i8042.write(0, 1, 0x65)
  }

  save(): Record<string, unknown> {
    return Object.fromEntries(
      Array.from(this.#devices, ([name, device]) => [name, device.save()] as const),
    )
  }

  /**
   * Restores all devices. Interrupt lines change silently: the controllers have their own state.
   */
  load(states: Readonly<Record<string, unknown>>): void {
    const unknown = Object.keys(states).find((name) => !this.#devices.has(name))
    if (unknown !== undefined) {
      throw new VmmError('E_STATE', `the saved state has a device ${unknown} that is not here`)
    }
    for (const [name, device] of this.#devices) {
      if (!(name in states)) {
        throw new VmmError('E_STATE', `the saved state has no device ${name}`)
      }
      device.load(states[name])
    }
    this.#irqs.settle()
  }

  close(): void {
    for (const port of this.serial) port?.close()
  }

  #add(name: string, device: Stateful): void {
    if (this.#devices.has(name)) {
      throw new VmmError('E_CONFIG', `two devices are called ${name}; rename one`, {
        fields: { device: name },
      })
    }
    this.#devices.set(name, device)
  }
}
