import type { AccessSizes, IoHandler } from '../../device.ts'
import { VmmError } from '../../errors.ts'
import type { Bus } from '../../machine/bus.ts'
import { bytes, flag, parseState } from '../../machine/state.ts'
import type { Mapping } from '../../machine/address-space.ts'
import {
  CONFIG_BYTES,
  ConfigSpace,
  EXTENDED_CONFIG_BYTES,
  PCI_BASE_ADDRESS_0,
  PCI_CLASS_DEVICE,
  PCI_CLASS_PROG,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_COMMAND_IO,
  PCI_COMMAND_MEMORY,
  PCI_DEVICE_ID,
  PCI_HEADER_TYPE,
  PCI_INTERRUPT_PIN,
  PCI_REVISION_ID,
  PCI_ROM_ADDRESS,
  PCI_ROM_ADDRESS_ENABLE,
  PCI_STATUS,
  PCI_STATUS_INTERRUPT,
  PCI_SUBSYSTEM_ID,
  PCI_SUBSYSTEM_VENDOR_ID,
  PCI_VENDOR_ID,
} from './config-space.ts'
import type { PciBus, PciBusState } from './bus.ts'
import { createRom } from './rom.ts'

/** Fixed facts about a function. */
export interface PciIdentity {
  vendor: number
  device: number
  revision?: number
  /** 24 bits: base class, subclass, programming interface. */
  classCode: number
  subsystemVendor?: number
  subsystem?: number
  /** 1 = INTA .. 4 = INTD; 0 or absent for none. */
  interruptPin?: number
  multifunction?: boolean
  /** 4096 bytes of configuration space rather than 256. */
  express?: boolean
  /** Type 1: the header of a bridge, which has no subsystem of its own and two BARs. */
  bridge?: boolean
}

/** What of both address spaces reaches a bus. */
export interface PciWindows {
  passes(space: 'pio' | 'mmio', base: number, size: number): boolean
}

/** The bus behind a bridge. */
export interface SecondaryBus {
  readonly bus: PciBus
  /** Set by the bus that the bridge is on: drives a pin of its slot, from 0 for INTA. */
  onPin: (pin: number, level: boolean) => void
}

/** A base address register. `size` is a power of two, at least 4 for ports and 16 for memory. */
export interface PciBar {
  space: 'pio' | 'mmio'
  size: number
  prefetchable?: boolean
  /** Takes two registers and may sit above 4 GiB. */
  is64?: boolean
  access?: AccessSizes
  handler: IoHandler
  /** Told where it answers from now on; undefined for nowhere. */
  onMove?: (base: number | undefined) => void
}

/** What sees accesses inside a capability. A read that it does not answer shows the registers. */
export interface ConfigWindow {
  read(offset: number, size: number): number | undefined
  write(offset: number, size: number, value: number): void
}

export interface PciFunctionState {
  config: Uint8Array
  interrupt: boolean
  /** What is behind a bridge. */
  behind?: PciBusState
}

/** What a base address register decodes. Plain data. */
export interface PciRegion {
  /** 0 to 5, or 6 for the ROM. */
  bar: number
  space: PciBar['space']
  /** Undefined where it decodes nothing. */
  base: number | undefined
  size: number
  prefetchable: boolean
  is64: boolean
}

const ROM_REGION = 6
/** Vendor and device. */
const ID_BYTES = 4

interface WindowSlot {
  start: number
  end: number
  handler: ConfigWindow
}

interface BarSlot {
  bar: PciBar
  /** For messages. */
  name: string
  /** Offset in the configuration space. */
  at: number
  isRom: boolean
  base: number | undefined
  mapping: Mapping | undefined
}

/** One PCI function: configuration space, BARs that follow it, and an INTx pin. */
export class PciFunction {
  readonly name: string
  readonly config: ConfigSpace
  readonly interruptPin: number
  readonly #bus: Bus
  readonly #bars: BarSlot[] = []
  readonly #registers: { register: number; bar: PciBar }[] = []
  readonly #windows: WindowSlot[] = []
  #interrupt = false
  /** Whether it may be taken out while the machine runs, and whether it was plugged in while it ran. */
  removable = false
  isHotplugged = false
  /** What ACPI calls the instance, for a name that does not depend on its place; 0 is none. */
  acpiIndex = 0
  /** Speed and width of its link, as the port before it reports them; undefined for conventional functions. */
  linkStatus: () => number | undefined = () => undefined
  /** Set by the PCI bus: what bridges let through to it. */
  windows: PciWindows | undefined
  /** The bus behind this bridge. */
  secondary: SecondaryBus | undefined
  /** The bus was reset, and this function with it. */
  onBusReset: () => void = () => {}
  /** Set by the PCI bus: drives the pin of this slot. */
  onInterrupt: (level: boolean) => void = () => {}
  /** Called after every guest write to the configuration space. */
  onConfigWrite: (offset: number, size: number) => void = () => {}

  constructor(name: string, bus: Bus, identity: PciIdentity) {
    this.name = name
    this.#bus = bus
    this.interruptPin = identity.interruptPin ?? 0
    this.config = new ConfigSpace(identity.express ? EXTENDED_CONFIG_BYTES : CONFIG_BYTES)
    const { config } = this
    config.set(PCI_VENDOR_ID, 2, identity.vendor)
    config.set(PCI_DEVICE_ID, 2, identity.device)
    config.set(PCI_REVISION_ID, 1, identity.revision ?? 0)
    config.set(PCI_CLASS_PROG, 1, identity.classCode)
    config.set(PCI_CLASS_DEVICE, 2, identity.classCode >>> 8)
    config.set(PCI_HEADER_TYPE, 1, (identity.multifunction ? 0x80 : 0) | (identity.bridge ? 1 : 0))
    if (identity.bridge !== true) {
      config.set(PCI_SUBSYSTEM_VENDOR_ID, 2, identity.subsystemVendor ?? 0x1af4)
      config.set(PCI_SUBSYSTEM_ID, 2, identity.subsystem ?? 0x1100)
    }
    config.set(PCI_INTERRUPT_PIN, 1, this.interruptPin)
    config.seal()
  }

  /** The sizes of the BARs by register index, for the code that assigns addresses. */
  get bars(): readonly { register: number; bar: PciBar }[] {
    return this.#registers
  }

  /** What its BARs, and its ROM, decode. */
  get regions(): PciRegion[] {
    const regions = this.#bars.map(({ bar, at, isRom, base }) => ({
      bar: isRom ? ROM_REGION : (at - PCI_BASE_ADDRESS_0) / 4,
      space: bar.space,
      base,
      size: bar.size,
      prefetchable: bar.prefetchable === true,
      is64: bar.is64 === true,
    }))
    return regions.toSorted((a, b) => a.bar - b.bar)
  }

  /** Adds base address register `register` (0..5). */
  addBar(register: number, bar: PciBar): void {
    const least = bar.space === 'pio' ? 4 : 16
    if (bar.size < least || (bar.size & (bar.size - 1)) !== 0 || bar.size > 0x8000_0000) {
      throw new VmmError(
        'E_CONFIG',
        `BAR ${register} of ${this.name} has size ${bar.size}; it must be a power of two from ` +
          `${least} to 2147483648`,
        { fields: { device: this.name, bar: register, size: bar.size } },
      )
    }
    const at = PCI_BASE_ADDRESS_0 + register * 4
    const memoryType = (bar.is64 ? 0x04 : 0) | (bar.prefetchable ? 0x08 : 0)
    this.config.set(at, 4, bar.space === 'pio' ? 1 : memoryType)
    this.config.allowWrites(at, 4, -bar.size >>> 0)
    if (bar.is64) {
      this.config.set(at + 4, 4, 0)
      this.config.allowWrites(at + 4, 4, 0xffffffff)
    }
    this.config.seal()
    this.#registers.push({ register, bar })
    this.#addSlot(bar, `BAR ${register}`, at)
  }

  /**
   * Adds an expansion ROM (PCI 3.0, 6.2.5.2), which firmware copies to memory and runs. The image is
   * filled up to a power of two.
   */
  addRom(image: Uint8Array): void {
    const bar = createRom(this.name, image)
    this.config.allowWrites(PCI_ROM_ADDRESS, 4, (-bar.size | PCI_ROM_ADDRESS_ENABLE) >>> 0)
    this.#addSlot(bar, 'ROM', PCI_ROM_ADDRESS)
  }

  reset(): void {
    this.config.reset()
    this.#interrupt = false
    this.onInterrupt(false)
    this.remap()
    this.onConfigWrite(0, this.config.size)
    this.secondary?.bus.resetFunctions()
  }

  /** Lets accesses that lie inside a capability, `length` bytes from `start`, go to `handler`. */
  addConfigWindow(start: number, length: number, handler: ConfigWindow): void {
    this.#windows.push({ start, end: start + length, handler })
  }

  configRead(offset: number, size: number): number {
    const window = this.#window(offset, size)
    return window?.handler.read(offset - window.start, size) ?? this.config.read(offset, size)
  }

  configWrite(offset: number, size: number, value: number): void {
    this.config.write(offset, size, value)
    const window = this.#window(offset, size)
    window?.handler.write(offset - window.start, size, value)
    this.remap()
    this.#driveInterrupt()
    this.onConfigWrite(offset, size)
  }

  /** Drives the INTx pin, unless the guest has disabled it. */
  setInterrupt(level: boolean): void {
    if (this.#interrupt === level) return
    this.#interrupt = level
    const status = this.config.data[PCI_STATUS]!
    this.config.data[PCI_STATUS] = level
      ? status | PCI_STATUS_INTERRUPT
      : status & ~PCI_STATUS_INTERRUPT
    this.#driveInterrupt()
  }

  save(): PciFunctionState {
    const behind = this.secondary?.bus.saveFunctions()
    return {
      config: this.config.save(),
      interrupt: this.#interrupt,
      ...(behind === undefined ? {} : { behind }),
    }
  }

  load(state: PciFunctionState): void {
    const { config, interrupt } = parseState<Omit<PciFunctionState, 'behind'>>(this.name, state, {
      config: bytes(this.config.size),
      interrupt: flag,
    })
    if (!config.subarray(0, ID_BYTES).every((byte, at) => byte === this.config.data[at])) {
      throw new VmmError('E_STATE', `the saved state has another function where ${this.name} is`, {
        fields: { device: this.name },
      })
    }
    this.config.load(config)
    this.remap()
    this.#interrupt = !interrupt
    this.setInterrupt(interrupt)
    this.#driveInterrupt()
    this.onConfigWrite(0, this.config.size)
    this.secondary?.bus.loadFunctions(state.behind)
  }

  #addSlot(bar: PciBar, name: string, at: number): void {
    const isRom = at === PCI_ROM_ADDRESS
    this.#bars.push({ bar, name, at, isRom, base: undefined, mapping: undefined })
  }

  #window(offset: number, size: number): WindowSlot | undefined {
    return this.#windows.find(({ start, end }) => offset >= start && offset + size <= end)
  }

  #driveInterrupt(): void {
    const enabled = (this.config.get16(PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE) === 0
    this.onInterrupt(this.#interrupt && enabled)
  }

  /** Moves the mappings to where the registers, and bridges before this function, now say. */
  remap(): void {
    const command = this.config.get16(PCI_COMMAND)
    for (const slot of this.#bars) {
      const { bar } = slot
      const enabled = command & (bar.space === 'pio' ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)
      const wanted = enabled ? this.#barBase(slot) : undefined
      const isPassed =
        wanted !== undefined && this.windows?.passes(bar.space, wanted, bar.size) !== false
      const base = isPassed ? wanted : undefined
      if (base === slot.base) continue
      slot.mapping?.unmap()
      slot.base = base
      slot.mapping =
        base === undefined
          ? undefined
          : this.#bus[bar.space].map({
              name: `${this.name} ${slot.name}`,
              base,
              len: bar.size,
              // Fixed devices win over whatever a guest programs on top of them.
              priority: -1,
              mayOverlap: true,
              ...(bar.access === undefined ? {} : { access: bar.access }),
              handler: bar.handler,
            })
      bar.onMove?.(base)
    }
  }

  /** The programmed base, or undefined where it decodes nothing: unset, or being sized. */
  #barBase(slot: BarSlot): number | undefined {
    const { bar, at, isRom } = slot
    if (isRom && (this.config.get32(at) & PCI_ROM_ADDRESS_ENABLE) === 0) return undefined
    const low = (this.config.get32(at) & -bar.size) >>> 0
    const high = bar.is64 ? this.config.get32(at + 4) : 0
    const base = high * 0x1_0000_0000 + low
    const end = base + bar.size
    if (base === 0) return undefined
    if (bar.space === 'pio') return end <= 0x1_0000 ? base : undefined
    // All-ones is the sizing probe; beyond 2^52 no CPU has addresses.
    if (low === -bar.size >>> 0 && (!bar.is64 || high === 0xffffffff)) return undefined
    return end <= 2 ** 52 ? base : undefined
  }
}
