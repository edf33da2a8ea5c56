import { unsupported } from '../refuse.ts'

/** What can be plugged in where; a slot takes several kinds, a device is of one. */
export const Plug = {
  Pci: 1,
  Pcie: 2,
  RootPort: 4,
  SwitchUpstream: 8,
  SwitchDownstream: 16,
  DmiToPci: 32,
  PcieToPci: 64,
  PciBridge: 128,
  PciExpander: 256,
  PcieExpander: 512,
} as const

/** A place on a PCI bus. */
export interface PciPlace {
  bus: number
  slot: number
  function: number
}

interface BusKind {
  /** What it takes. */
  takes: number
  firstSlot: number
  lastSlot: number
  /** Whether devices without an address come here. */
  automatic: boolean
  /** What it is itself plugged in as; undefined for a root. */
  as?: number
}

const conventional = Plug.Pci | Plug.PciBridge
const port = Plug.Pcie | Plug.SwitchUpstream | Plug.PcieToPci

/** Buses by the model of the controller that has them. */
export const busKinds: Readonly<Record<string, BusKind>> = {
  'pci-root': {
    takes: conventional | Plug.PciExpander,
    firstSlot: 1,
    lastSlot: 31,
    automatic: true,
  },
  'pci-bridge': {
    takes: conventional,
    firstSlot: 1,
    lastSlot: 31,
    automatic: true,
    as: Plug.PciBridge,
  },
  'pci-expander-bus': {
    takes: conventional,
    firstSlot: 0,
    lastSlot: 31,
    automatic: true,
    as: Plug.PciExpander,
  },
  'pcie-root': {
    takes: Plug.Pcie | Plug.RootPort | Plug.DmiToPci | Plug.PcieExpander,
    firstSlot: 1,
    lastSlot: 31,
    automatic: false,
  },
  'pcie-expander-bus': {
    takes: Plug.RootPort | Plug.DmiToPci,
    firstSlot: 0,
    lastSlot: 31,
    automatic: false,
    as: Plug.PcieExpander,
  },
  'dmi-to-pci-bridge': {
    takes: conventional,
    firstSlot: 0,
    lastSlot: 31,
    automatic: false,
    as: Plug.DmiToPci,
  },
  'pcie-to-pci-bridge': {
    takes: conventional,
    firstSlot: 1,
    lastSlot: 31,
    automatic: true,
    as: Plug.PcieToPci,
  },
  'pcie-root-port': { takes: port, firstSlot: 0, lastSlot: 0, automatic: true, as: Plug.RootPort },
  'pcie-switch-downstream-port': {
    takes: port,
    firstSlot: 0,
    lastSlot: 0,
    automatic: true,
    as: Plug.SwitchDownstream,
  },
  'pcie-switch-upstream-port': {
    takes: Plug.SwitchDownstream,
    firstSlot: 0,
    lastSlot: 31,
    automatic: false,
    as: Plug.SwitchUpstream,
  },
}

/** Which functions of which slots of a bus are taken. */
class PciBus {
  readonly model: string
  takes: number
  automatic: boolean
  readonly firstSlot: number
  readonly lastSlot: number
  /** Functions by slot, as bits. */
  readonly functions: Uint8Array = new Uint8Array(32)
  /** Slots whose functions are for root ports. */
  readonly shared: Set<number> = new Set()

  constructor(model: string) {
    const kind = busKinds[model]
    if (kind === undefined) throw unsupported(`there is no PCI controller "${model}"`)
    this.model = model
    this.takes = kind.takes
    this.automatic = kind.automatic
    this.firstSlot = kind.firstSlot
    this.lastSlot = kind.lastSlot
  }

  isFull(): boolean {
    for (let slot = this.firstSlot; slot <= this.lastSlot; slot++) {
      if (this.functions[slot] === 0) return false
    }
    return true
  }
}

/** All PCI buses of a machine while addresses are given. */
export class PciBuses {
  readonly buses: PciBus[] = []
  /** Whether buses may be added. */
  readonly grows: boolean

  constructor(models: readonly string[], grows: boolean) {
    this.grows = grows
    for (const model of models) this.buses.push(new PciBus(model))
  }

  isTaken({ bus, slot }: Omit<PciPlace, 'function'>): boolean {
    return (this.buses[bus]?.functions[slot] ?? 0) !== 0
  }

  isFull(): boolean {
    return this.buses.every((bus) => bus.isFull())
  }

  /**
   * Takes a place that a document names, or that a chipset has for a device.
   * @throws XmlError when there is no such place, or it is taken
   */
  reserve(place: PciPlace, plug: number, at?: object): void {
    while (this.grows && place.bus >= this.buses.length) this.grow(plug, place.bus)
    const bus = this.buses[place.bus]
    const fail = (why: string) => unsupported(`${format(place)}: ${why}`, { at })
    if (bus === undefined) throw fail(`there are only ${this.buses.length} PCI buses`)
    // A document may put any endpoint on any bus for endpoints, be it of PCI or PCI Express.
    const endpoint = Plug.Pci | Plug.Pcie
    const widened = plug & endpoint ? plug | endpoint : plug
    if ((bus.takes & widened) === 0) {
      throw fail(`the device cannot be plugged into a "${bus.model}"`)
    }
    if (place.slot < bus.firstSlot || place.slot > bus.lastSlot) {
      throw fail(`a "${bus.model}" has the slots ${bus.firstSlot} to ${bus.lastSlot}`)
    }
    this.take(bus, place, plug, fail)
  }

  private take(bus: PciBus, place: PciPlace, plug: number, fail: (why: string) => Error): void {
    const used = bus.functions[place.slot] ?? 0
    if (used & (1 << place.function)) throw fail('another device is there')
    if (used === 0 && plug === Plug.RootPort) bus.shared.add(place.slot)
    bus.functions[place.slot] = used | (1 << place.function)
  }

  /** Takes the next free place for a device, adding a bus when there is none and buses may be added. */
  reserveNext(plug: number, preferred: number = 0, at?: object): PciPlace {
    const found = this.findFree(plug, preferred) ?? this.growFor(plug, preferred, at)
    const bus = this.buses[found.bus]
    if (bus !== undefined) this.take(bus, found, plug, (why) => unsupported(why, { at }))
    return found
  }

  private findFree(plug: number, preferred: number): PciPlace | undefined {
    for (const [number, bus] of this.buses.entries()) {
      const bridge =
        plug &
        (Plug.RootPort | Plug.DmiToPci | Plug.PcieExpander | Plug.SwitchDownstream | Plug.PciBridge)
      if ((bus.takes & plug) === 0 || (!bus.automatic && !bridge)) continue
      for (let slot = bus.firstSlot; slot <= bus.lastSlot; slot++) {
        const used = bus.functions[slot] ?? 0
        if (used === 0) return { bus: number, slot, function: preferred }
        if (plug !== Plug.RootPort || !bus.shared.has(slot)) continue
        const free = [0, 1, 2, 3, 4, 5, 6, 7].find((one) => !(used & (1 << one)))
        if (free !== undefined) return { bus: number, slot, function: free }
      }
    }
    return undefined
  }

  private growFor(plug: number, preferred: number, at: object | undefined): PciPlace {
    if (!this.grows) throw unsupported('there is no free PCI slot', { at })
    this.grow(plug, this.buses.length, at)
    const bus = this.buses.length - 1
    return { bus, slot: this.buses[bus]?.firstSlot ?? 0, function: preferred }
  }

  /** Adds buses up to a number, of the kind that takes a device. */
  private grow(plug: number, upTo: number, at?: object): void {
    if (upTo > 255) throw unsupported('a machine has at most 256 PCI buses', { at })
    if (plug & Plug.Pci) {
      const bridges = this.buses.some((bus) => bus.takes & Plug.PciBridge)
      if (!bridges) {
        // PCI hangs below PCI Express: a port, which is for this bridge alone, and the bridge.
        const onlyBridge = new PciBus('pcie-root-port')
        onlyBridge.takes = Plug.PcieToPci
        this.buses.push(onlyBridge, new PciBus('pcie-to-pci-bridge'))
      }
      const missing = upTo - this.buses.length + 1
      for (let i = 0; i < missing; i++) this.buses.push(new PciBus('pci-bridge'))
      return
    }
    if (!(plug & (Plug.Pcie | Plug.SwitchUpstream | Plug.PcieToPci))) {
      throw unsupported('there is no PCI bus for it, and none that can be added', { at })
    }
    while (this.buses.length <= upTo) this.buses.push(new PciBus('pcie-root-port'))
  }
}

/** An address as messages write it: `0000:00:1f.2`. */
export function format({ bus, slot, function: fn }: PciPlace): string {
  const hex = (value: number) => value.toString(16).padStart(2, '0')
  return `PCI address 0000:${hex(bus)}:${hex(slot)}.${fn}`
}
