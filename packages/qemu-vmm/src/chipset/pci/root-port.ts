import type { Stateful } from '../../device.ts'
import type { Bus } from '../../machine/bus.ts'
import { flag, parseState, u16 } from '../../machine/state.ts'
import type { AcpiPciHotplug } from './acpi-hotplug.ts'
import { addWindows, bridgeWindows } from './bridge-windows.ts'
import { PciBus } from './bus.ts'
import { PCI_PRIMARY_BUS, PCI_STATUS } from './config-space.ts'
import { PciFunction } from './function.ts'
import type { SecondaryBus } from './function.ts'
import type { SlotHotplug } from './hotplug.ts'
import { Msix } from './msix.ts'
import type { MsixState, SendMessage } from './msix.ts'
import { PcieSlot } from './pcie-slot.ts'

const CAP_ID_SUBSYSTEM = 0x0d
const SUBSYSTEM_AT = 0x40
const MSIX_AT = 0x48
const EXPRESS_AT = 0x54
const BRIDGE_CONTROL = 0x3e
const BRIDGE_CONTROL_WRITABLE = 0x005f
const BUS_RESET = 0x40
/** A guest blinks for five seconds, in which its user may think better of it. */
const PATIENCE_NS = 5_000_000_000

/** Extended capabilities (PCI Express 5.0, 7.8.4 and 7.7.11): errors, of which there are none, and access control. */
const ERRORS_AT = 0x100
const ACCESS_AT = 0x148

interface RootPortState {
  msix: unknown
  status: number
  /** The bus behind is held in reset. */
  inReset: boolean
}

/** What a root port is told when it is created. */
export interface RootPortOptions {
  /** Number of the physical slot. */
  slot: number
  port: number
  /** Devices come and go while the machine runs (default: true). */
  hotplug?: boolean
  sendMessage: SendMessage
  /** The guest has let go of what is in the slot: takes it out. */
  removed(): void
  /** What fills and empties the slot in place of the port itself. */
  acpiHotplug?: AcpiPciHotplug
}

/** QEMU's `pcie-root-port`: a bridge with one hot-plug slot of PCI Express behind it. */
export class RootPort implements Stateful, SlotHotplug {
  readonly patienceNs: number = PATIENCE_NS
  readonly fn: PciFunction
  readonly bus: PciBus
  readonly slot: PcieSlot
  readonly #msix: Msix
  #isPending = false
  #wasReset = false
  #wasPowered = false

  constructor(name: string, space: Bus, options: RootPortOptions) {
    const {
      slot,
      port,
      hotplug: isHotpluggable = true,
      sendMessage,
      removed,
      acpiHotplug,
    } = options
    this.fn = new PciFunction(name, space, {
      vendor: 0x1b36,
      device: 0x000c,
      classCode: 0x060400,
      interruptPin: 1,
      express: true,
      bridge: true,
    })
    const { config } = this.fn
    config.allowWrites(PCI_PRIMARY_BUS, 4, 0xffff_ffff)
    addWindows(config)
    config.allowWrites(BRIDGE_CONTROL, 2, BRIDGE_CONTROL_WRITABLE)
    // The three lists of QEMU's port are in this order, from the last to the first.
    this.slot = new PcieSlot(
      this.fn,
      EXPRESS_AT,
      { slot, port, isNative: acpiHotplug === undefined, isHotpluggable },
      {
        interrupt: (level) => this.#interrupt(level),
        removed: () => this.#remove(removed),
        link: () => this.bus.function(0, 0)?.linkStatus(),
      },
    )
    this.#msix = new Msix(this.fn, 0, 1, sendMessage, { place: MSIX_AT })
    config.addCapability(
      CAP_ID_SUBSYSTEM,
      Uint8Array.of(0, 0, 0, 0, 0x36, 0x1b, 0, 0),
      SUBSYSTEM_AT,
    )
    addExtendedCapabilities(this.fn)
    config.set(PCI_STATUS, 1, 0x10)
    config.seal()
    const windows = bridgeWindows(this.fn)
    const secondary: SecondaryBus = {
      onPin: () => {},
      bus: new PciBus(
        {
          line: (device, pin) => (device + pin - 1) & 3,
          drive: (line, level) => secondary.onPin(line, level),
        },
        {
          slots: 1,
          express: true,
          windows: { passes: (...range) => this.slot.isPowered && windows.passes(...range) },
          powered: () => this.slot.isPowered,
        },
      ),
    }
    this.fn.secondary = secondary
    this.bus = secondary.bus
    if (isHotpluggable && acpiHotplug === undefined) this.bus.hotplug = this
    else if (isHotpluggable) acpiHotplug?.manage(this.bus, () => this.#switchOn())
    this.fn.onConfigWrite = () => {
      this.#msix.configWritten()
      this.bus.remap()
      this.#followPower()
      this.#resetBus()
    }
  }

  /** A device is in the slot when the machine is switched on. */
  get isOccupied(): boolean {
    return this.bus.function(0, 0) !== undefined
  }

  checkPlug(): void {
    this.slot.checkUnlocked()
  }

  plugged(): void {
    // The guest hears of all functions when the first one is there.
    if (this.isOccupied) this.slot.plugged()
  }

  requestUnplug(_slot: number, functionNumber: number): boolean {
    this.slot.checkUnplug()
    if (functionNumber > 0 && !this.isOccupied) return true
    this.slot.requestRemoval()
    return false
  }

  reset(): void {
    this.#msix.reset()
    this.#wasReset = false
    this.#isPending = false
    this.slot.setPresent(this.isOccupied)
    this.slot.update()
    this.bus.remap()
    this.#followPower()
  }

  save(): RootPortState {
    return { msix: this.#msix.save(), status: this.slot.status, inReset: this.#wasReset }
  }

  load(state: RootPortState): void {
    const { status, inReset } = parseState<Omit<RootPortState, 'msix'>>(this.fn.name, state, {
      status: u16,
      inReset: flag,
    })
    this.#msix.load(state.msix as MsixState)
    this.#wasReset = inReset
    this.#wasPowered = this.slot.isPowered
    this.slot.restore(status, this.isOccupied)
  }

  /** Messages that were held back while the machine stood. */
  resume(): void {
    this.#msix.flush()
  }

  /** ACPI has filled the slot: no guest switches it on. */
  #switchOn(): void {
    this.slot.switchOn()
    this.bus.remap()
    this.#followPower()
  }

  /** What cannot be taken out stays, without power. */
  #remove(removed: () => void): boolean {
    for (const { fn } of this.bus.functions()) if (!fn.removable) return false
    removed()
    return true
  }

  /** Without power devices forget everything. */
  #followPower(): void {
    const { isPowered } = this.slot
    if (this.#wasPowered && !isPowered) this.#resetDevices()
    this.#wasPowered = isPowered
  }

  #interrupt(level: boolean): void {
    const rises = level && !this.#isPending
    this.#isPending = level
    if (this.#msix.enabled) {
      if (rises) this.#msix.trigger(0)
      this.fn.setInterrupt(false)
    } else this.fn.setInterrupt(level)
  }

  /** What the guest resets by the bridge's control register begins anew. */
  #resetBus(): void {
    const isReset = (this.fn.config.get16(BRIDGE_CONTROL) & BUS_RESET) !== 0
    if (isReset && !this.#wasReset) this.#resetDevices()
    this.#wasReset = isReset
  }

  #resetDevices(): void {
    this.bus.resetFunctions()
    for (const fn of this.bus.allFunctions()) fn.onBusReset()
  }
}

function addExtendedCapabilities({ config }: PciFunction): void {
  config.set(ERRORS_AT, 4, (ACCESS_AT << 20) | 0x0002_0001)
  config.set(ERRORS_AT + 0x0c, 4, 0x0046_2030)
  config.allowWrites(ERRORS_AT + 0x0c, 4, 0x03ff_f030)
  config.set(ERRORS_AT + 0x14, 4, 0xe000)
  config.allowWrites(ERRORS_AT + 0x14, 4, 0xf1c1)
  config.set(ERRORS_AT + 0x18, 4, 0x02a0)
  config.allowWrites(ERRORS_AT + 0x18, 4, 0x0540)
  config.allowWrites(ERRORS_AT + 0x2c, 4, 0x0007)
  config.set(ACCESS_AT, 4, 0x0001_000d)
  config.set(ACCESS_AT + 4, 2, 0x005f)
  config.allowWrites(ACCESS_AT + 6, 2, 0x005f)
}
