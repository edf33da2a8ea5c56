import type { GuestMemory } from 'kvm-core'

import { AcpiPm } from '../chipset/acpi-pm.ts'
import { I8042 } from '../chipset/i8042.ts'
import { DmaControllers } from '../chipset/i8237.ts'
import { PiixIde } from '../chipset/ide/piix-ide.ts'
import { assignResources } from '../chipset/pci/assign.ts'
import { PciBus } from '../chipset/pci/bus.ts'
import { HostBridge } from '../chipset/pci/i440fx.ts'
import type { ShadowControl } from '../chipset/pci/pam.ts'
import { PIRQ_ROUTE, Piix3, Piix4Pm } from '../chipset/pci/piix.ts'
import { Rtc } from '../chipset/rtc.ts'
import { COM_PORTS, SerialPort } from '../chipset/serial-port.ts'
import type { SerialBackend } from '../chipset/serial-port.ts'
import { Port92, ResetControl } from '../chipset/small-ports.ts'
import { KeyQueue } from '../display/key-queue.ts'
import type { Display } from '../display/display.ts'
import type { Clock, DeviceContext, DeviceDefinition, IoHandler, Stateful } from '../device.ts'
import { VmmError } from '../errors.ts'
import { GPE0_PORT, PM_BASE_PORT, RESET_PORT, SMI_COMMAND_PORT } from './acpi/tables.ts'
import { Bus } from './bus.ts'
import { setCpuCmos, setMemoryCmos } from './cmos.ts'
import { mapCustomDevice } from './custom-device.ts'
import type { IrqLines } from './irq.ts'
import type { MemoryMap } from './memory-map.ts'

/** Firmware shows its progress here, and Linux writes to it to wait: nothing answers. */
export const POST_PORT = 0x80
const SCI_GSI = 9
/** The I/O APIC and what is behind it begin here. */
const PCI_HOLE_END = 0xfec0_0000
const ISA_IRQS = 16

/** What the board's devices do to the machine. */
export interface BoardActions {
  reset(): void
  powerOff(): void
  suspend(): void
  wake(): void
}

/** Parts that the board is built from. */
export interface BoardConfig {
  irqs: IrqLines
  clock: Clock
  map: MemoryMap
  /** For the devices of the board that are bus masters. */
  memory: GuestMemory
  /** Processors. */
  cpus: number
  serial: readonly (SerialBackend | undefined)[]
  /** Makes the host bridge's attribute map take effect. */
  shadow?: ShadowControl
  actions: BoardActions
}

/** The `pc` board: i440FX host bridge, PIIX3, PIIX4 power management and the legacy devices. */
export class PcBoard {
  readonly bus: Bus = new Bus()
  readonly pci: PciBus
  readonly rtc: Rtc
  readonly i8042: I8042
  /** What is typed on the keyboard. */
  readonly keys: KeyQueue
  readonly pm: AcpiPm
  readonly ide: PiixIde
  /** Screens that were plugged in. */
  readonly displays: Display[] = []
  readonly serial: readonly SerialPort[]
  readonly #hostBridge: HostBridge
  readonly #shadow: ShadowControl | undefined
  readonly #piix3: Piix3
  readonly #piix4: Piix4Pm
  readonly #irqs: IrqLines
  readonly #pciHoleStart: number
  readonly #devices = new Map<string, Stateful>()

  constructor(config: BoardConfig) {
    const { irqs, clock, actions } = config
    this.#irqs = irqs
    this.#pciHoleStart = config.map.pciHoleStart
    const { pio } = this.bus
    const line = (gsi: number): ReturnType<IrqLines['source']> => irqs.source(gsi)

    this.rtc = new Rtc(line(8), clock)
    setMemoryCmos(this.rtc, config.map)
    setCpuCmos(this.rtc, config.cpus)
    this.i8042 = new I8042({ keyboardIrq: line(1), mouseIrq: line(12), reset: actions.reset })
    this.keys = new KeyQueue(this.i8042.keyboard, clock)
    this.pm = new AcpiPm(line(SCI_GSI), clock, actions)
    this.rtc.onAlarm = () => this.pm.rtcAlarm()
    const routed = Array.from({ length: ISA_IRQS }, (_, irq) => line(irq))
    this.#piix3 = new Piix3(this.bus, routed)
    this.#piix4 = new Piix4Pm(this.bus, this.pm)
    this.pci = new PciBus((pirq, level) => this.#piix3.setPirq(pirq, level))
    this.#shadow = config.shadow
    this.#hostBridge = new HostBridge(this.bus, config.shadow)
    this.pci.add(this.#hostBridge.fn, 0, 0)
    this.pci.add(this.#piix3.fn, 1, 0)
    this.ide = new PiixIde(this.bus, config.memory, [line(14), line(15)])
    this.pci.add(this.ide.fn, 1, 1)
    this.pci.add(this.#piix4.fn, 1, 3)
    this.serial = COM_PORTS.slice(0, Math.max(1, config.serial.length)).map(
      ({ irq }, i) => new SerialPort(line(irq), clock, config.serial[i]),
    )

    const dma = new DmaControllers()
    const port92 = new Port92(actions.reset)
    const resetControl = new ResetControl(actions.reset)
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
    for (const base of [0x60, 0x64]) {
      pio.map({ name: 'i8042', base, len: 1, origin: 0x60, handler: this.i8042, access: byte })
    }
    at('port92', 0x92, 1, port92)
    at('apm', SMI_COMMAND_PORT, 2, this.pm.apm)
    at('gpe0', GPE0_PORT, 4, this.pm.gpe0)
    for (const [i, { base }] of COM_PORTS.entries()) {
      const port = this.serial[i]
      if (port !== undefined) at(`serial${i}`, base, 8, port.uart)
    }
    pio.map({ name: 'pci-address', base: 0xcf8, len: 4, handler: this.pci.addressPort })
    pio.map({ name: 'pci-data', base: 0xcfc, len: 4, handler: this.pci.dataPort })
    pio.map({
      name: 'reset-control',
      base: RESET_PORT,
      len: 1,
      priority: 1,
      handler: resetControl,
      access: byte,
    })

    this.#add('rtc', this.rtc)
    this.#add('i8042', this.i8042)
    this.#add('acpi-pm', this.pm)
    this.#add('pci', this.pci)
    this.#add('ide', this.ide)
    this.#add('dma', dma)
    this.#add('port92', port92)
    this.#add('reset-control', resetControl)
    for (const [i, port] of this.serial.entries()) this.#add(`serial${i}`, port.uart)
  }

  /** Creates a custom device and maps its ranges. */
  addCustomDevice(definition: DeviceDefinition, context: Omit<DeviceContext, 'irq'>): void {
    this.#add(definition.name, mapCustomDevice(this.bus, this.#irqs, definition, context))
  }

  /** Adds a device that has found its own place on a bus. */
  addPlugged(name: string, device: Stateful): void {
    this.#add(name, device)
  }

  /** Power-on state of all devices. */
  reset(): void {
    this.#shadow?.restore()
    this.keys.clear()
    for (const device of this.#devices.values()) device.reset()
  }

  /** Programs what firmware would have programmed before it starts a kernel. */
  applyFirmwareSetup(): void {
    this.#hostBridge.showRam()
    const piix3 = this.#piix3.fn
    for (const [i, irq] of [10, 10, 11, 11].entries()) piix3.configWrite(PIRQ_ROUTE + i, 1, irq)
    const piix4 = this.#piix4.fn
    piix4.configWrite(0x40, 4, PM_BASE_PORT)
    piix4.configWrite(0x80, 1, 1)
    piix4.configWrite(0x3c, 1, SCI_GSI)
    this.ide.enable()
    for (const display of this.displays) display.setTextMode()
    // Self-test, then translation and the keyboard interrupt on: Linux keeps to what it finds.
    this.i8042.write(4, 1, 0xaa)
    this.i8042.read(0)
    this.i8042.write(4, 1, 0x60)
    this.i8042.write(0, 1, 0x65)
    assignResources(this.pci, { start: this.#pciHoleStart, end: PCI_HOLE_END })
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
    for (const port of this.serial) port.close()
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
