import type { VirtioDevice, VirtioDeviceState } from '../../device.ts'
import type { Interrupt } from '../../memory.ts'
import type { QueueLink } from '../../net/ring-loan.ts'
import { int, opaque, parseState } from '../../state.ts'
import {
  BAR_BYTES,
  COMMON_OFFSET,
  DEVICE_OFFSET,
  ISR_OFFSET,
  NOTIFY_OFFSET,
  NOTIFY_OFF_MULTIPLIER,
  type PciCapability,
  VIRTIO_PCI_BAR,
  VIRTIO_PCI_CAP_COMMON_CFG,
  VIRTIO_PCI_CAP_DEVICE_CFG,
  VIRTIO_PCI_CAP_ISR_CFG,
  VIRTIO_PCI_CAP_NOTIFY_CFG,
  VIRTIO_PCI_CAP_PCI_CFG,
  type VirtioPciIdentity,
  pciIdentity,
  virtioCapability,
} from './capabilities.ts'
import { LEGACY_BAR, LegacyRegisters, legacyBarBytes } from './legacy.ts'
import { CommonConfig, type CommonConfigState, VIRTIO_MSI_NO_VECTOR } from './common-config.ts'

const STRUCTURE_BYTES = 0x1000
const ISR_QUEUE = 1
const ISR_CONFIG = 2
/** Where in the PCI configuration access capability the window register is. */
const PCI_CFG_DATA = 16

/** What the PCI function does for the transport. */
export interface PciLinks {
  msix: {
    /** The driver has turned MSI-X on. */
    readonly enabled: boolean
    /** Size of the table; 0 where the function has no MSI-X. */
    readonly vectors: number
    /** Sends a vector's message, or pends it while masked; `vector` is below `vectors`. */
    trigger(vector: number): void
  }
  intx: { set(level: boolean): void }
  /**
   * Has the kicks of a queue signal an eventfd alone, until that ends; with the message of an MSI-X vector. Undefined where there
   * is no such eventfd, or the vector cannot be signalled without this side.
   */
  lend?(queue: number, vector: number): QueueLink | undefined
}

export interface VirtioPciOptions {
  /**
   * Is a transitional device: has the legacy interface as well, the id of one, and its type as
   * subsystem id. Default false.
   */
  transitional?: boolean
}

/** Where in the BAR the driver kicks a queue: a 16-bit write of any value. */
export interface NotifyAddress {
  queue: number
  /** Bytes from the start of the BAR. */
  offset: number
}

export interface VirtioPciState {
  device: VirtioDeviceState
  common: CommonConfigState
  isr: number
  /** `bar`, `offset` and `length` of the PCI configuration access capability. */
  window: { bar: number; offset: number; length: number }
}

/**
 * The registers of a virtio device on PCI (VirtIO 1.2, section 4.1): what is in its one memory BAR
 * and which capabilities point there. Configuration space and MSI-X table are the embedder's.
 */
export class VirtioPciTransport implements Interrupt {
  readonly device: VirtioDevice
  readonly identity: VirtioPciIdentity
  /** The memory BAR that `read` and `write` serve. */
  readonly bar: { index: number; size: number } = { index: VIRTIO_PCI_BAR, size: BAR_BYTES }
  /** The port BAR of the legacy interface, which `legacyRead` and `legacyWrite` serve. */
  readonly legacyBar: { index: number; size: number } | undefined
  readonly capabilities: readonly PciCapability[]
  readonly notifyAddresses: readonly NotifyAddress[]
  readonly #links: PciLinks
  readonly #common: CommonConfig
  readonly #legacy: LegacyRegisters
  readonly #window = { bar: 0, offset: 0, length: 0 }
  #isr = 0

  constructor(device: VirtioDevice, links: PciLinks, options: VirtioPciOptions = {}) {
    this.device = device
    this.#links = links
    this.identity = pciIdentity(device, options.transitional ?? false)
    this.#common = new CommonConfig(device, () => links.msix.vectors)
    this.legacyBar = options.transitional
      ? { index: LEGACY_BAR, size: legacyBarBytes(device) }
      : undefined
    this.#legacy = new LegacyRegisters(device, this.#common, {
      get msixEnabled() {
        return links.msix.enabled
      },
      readIsr: () => this.#readIsr(),
    })
    this.notifyAddresses = device.queues.map(({ index }) => ({
      queue: index,
      offset: NOTIFY_OFFSET + NOTIFY_OFF_MULTIPLIER * index,
    }))
    this.capabilities = [
      virtioCapability(VIRTIO_PCI_CAP_COMMON_CFG, COMMON_OFFSET, STRUCTURE_BYTES),
      virtioCapability(VIRTIO_PCI_CAP_ISR_CFG, ISR_OFFSET, STRUCTURE_BYTES),
      virtioCapability(VIRTIO_PCI_CAP_DEVICE_CFG, DEVICE_OFFSET, STRUCTURE_BYTES),
      virtioCapability(VIRTIO_PCI_CAP_NOTIFY_CFG, NOTIFY_OFFSET, STRUCTURE_BYTES),
      this.#accessCapability(),
    ]
    device.connect(this)
    device.onReset = () => this.#resetRegisters()
  }

  /** Reads 1, 2 or 4 bytes of the BAR. */
  read(offset: number, size: number): number {
    if (offset >= NOTIFY_OFFSET) return 0
    if (offset >= DEVICE_OFFSET) return this.device.configRead(offset - DEVICE_OFFSET, size)
    if (offset >= ISR_OFFSET) return offset === ISR_OFFSET ? this.#readIsr() : 0
    return this.#common.read(offset, size)
  }

  /** Writes 1, 2 or 4 bytes of the BAR. */
  write(offset: number, size: number, value: number): void {
    if (offset >= NOTIFY_OFFSET) {
      this.notifyQueue((offset - NOTIFY_OFFSET) / NOTIFY_OFF_MULTIPLIER)
    } else if (offset >= DEVICE_OFFSET) {
      this.device.configWrite(offset - DEVICE_OFFSET, size, value)
    } else if (offset < ISR_OFFSET) {
      this.device.yieldRings()
      this.#common.write(offset, size, value)
    }
  }

  /** Reads 1, 2 or 4 bytes of the legacy BAR. */
  legacyRead(offset: number, size: number): number {
    return this.#legacy.read(offset, size)
  }

  /** Writes 1, 2 or 4 bytes of the legacy BAR. */
  legacyWrite(offset: number, size: number, value: number): void {
    this.device.yieldRings()
    this.#legacy.write(offset, size, value)
  }

  /** A kick, from a write to the notify address or from the ioeventfd there. */
  notifyQueue(index: number): void {
    this.device.notify(index)
  }

  queue(index: number): void {
    this.#raise(this.#common.queueVectors[index] ?? VIRTIO_MSI_NO_VECTOR, ISR_QUEUE)
  }

  config(): void {
    this.#raise(this.#common.configVector, ISR_CONFIG)
  }

  lend(index: number): QueueLink | undefined {
    const { msix, lend } = this.#links
    const vector = this.#common.queueVectors[index] ?? VIRTIO_MSI_NO_VECTOR
    return msix.enabled && vector < msix.vectors ? lend?.(index, vector) : undefined
  }

  /** The reset of the bus: as a driver's, and of the capability as well. */
  reset(): void {
    Object.assign(this.#window, { bar: 0, offset: 0, length: 0 })
    this.device.reset()
  }

  /** Drives INTx again; the embedder calls it when MSI-X was turned on or off. */
  updateIntx(): void {
    this.#links.intx.set(this.#isr !== 0 && !this.#links.msix.enabled)
  }

  save(): VirtioPciState {
    return {
      device: this.device.save(),
      common: this.#common.save(),
      isr: this.#isr,
      window: { ...this.#window },
    }
  }

  /** MSI-X must be loaded before, guest memory as well; `device.resume()` comes after. */
  load(state: VirtioPciState): void {
    const name = `${this.device.model.name} on PCI`
    const s = parseState<VirtioPciState>(name, state, {
      device: opaque as never,
      common: opaque as never,
      isr: int(0, ISR_QUEUE | ISR_CONFIG),
      window: opaque as never,
    })
    const window = parseState<VirtioPciState['window']>(name, s.window, {
      bar: int(0, 0xff),
      offset: int(0, 0xffff_ffff),
      length: int(0, 0xffff_ffff),
    })
    this.#common.load(s.common)
    this.device.load(s.device)
    this.#isr = s.isr
    Object.assign(this.#window, window)
    this.updateIntx()
  }

  #raise(vector: number, isr: number): void {
    const { msix, intx } = this.#links
    if (msix.enabled) {
      if (vector < msix.vectors) msix.trigger(vector)
      return
    }
    this.#isr |= isr
    intx.set(true)
  }

  #readIsr(): number {
    const value = this.#isr
    this.#isr = 0
    if (value !== 0) this.#links.intx.set(false)
    return value
  }

  #resetRegisters(): void {
    this.#common.reset()
    this.#isr = 0
    this.#links.intx.set(false)
  }

  /** Reaches the BAR through the configuration space (section 4.1.4.9). */
  #accessCapability(): PciCapability {
    const window = this.#window
    const { bytes, writable } = virtioCapability(VIRTIO_PCI_CAP_PCI_CFG, 0, 0)
    writable.fill(0xff, 4, 5)
    writable.fill(0xff, 8)
    const registers = new DataView(bytes.slice().buffer)
    const inside = (size: number): boolean =>
      window.bar === VIRTIO_PCI_BAR &&
      window.length === size &&
      window.offset % size === 0 &&
      window.offset + size <= BAR_BYTES
    const refresh = (): void => {
      registers.setUint8(4, window.bar)
      registers.setUint32(8, window.offset, true)
      registers.setUint32(12, window.length, true)
    }
    const access = {
      read: (offset: number, size: number): number => {
        if (offset === PCI_CFG_DATA && inside(size)) return this.read(window.offset, size)
        refresh()
        let value = 0
        for (let i = 0; i < size && offset + i < PCI_CFG_DATA; i++) {
          value += registers.getUint8(offset + i) * 2 ** (8 * i)
        }
        return value
      },
      write: (offset: number, size: number, value: number): void => {
        if (offset === PCI_CFG_DATA && inside(size)) {
          this.write(window.offset, size, value)
          return
        }
        refresh()
        for (let i = 0; i < size && offset + i < PCI_CFG_DATA; i++) {
          if (writable[offset + i]) {
            registers.setUint8(offset + i, Math.floor(value / 2 ** (8 * i)) & 0xff)
          }
        }
        window.bar = registers.getUint8(4)
        window.offset = registers.getUint32(8, true)
        window.length = registers.getUint32(12, true)
      },
    }
    return { bytes, writable, access }
  }
}
