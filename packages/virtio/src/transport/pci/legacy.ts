import type { VirtioDevice } from '../../device.ts'
import { availBytes } from '../../queue/layout.ts'
import type { CommonConfig } from './common-config.ts'

/** Registers of the legacy interface (VirtIO 1.2, section 4.1.4.8), by offset. */
const DEVICE_FEATURES = 0x00
const DRIVER_FEATURES = 0x04
const QUEUE_ADDRESS = 0x08
const QUEUE_SIZE = 0x0c
const QUEUE_SELECT = 0x0e
export const LEGACY_QUEUE_NOTIFY = 0x10
const DEVICE_STATUS = 0x12
const ISR_STATUS = 0x13
const CONFIG_MSIX_VECTOR = 0x14
const QUEUE_MSIX_VECTOR = 0x16
/** The device's configuration follows, behind the vectors only while MSI-X is on. */
const CONFIG_WITHOUT_MSIX = 0x14
const CONFIG_WITH_MSIX = 0x18

/** The BAR of the legacy interface, in port space. */
export const LEGACY_BAR = 0
const LEGACY_PAGE = 4096

/** Registers that mean the same as one of the common configuration structure. */
const COMMON: Readonly<Record<number, number>> = {
  [CONFIG_MSIX_VECTOR]: 0x10,
  [QUEUE_SELECT]: 0x16,
  [QUEUE_SIZE]: 0x18,
  [QUEUE_MSIX_VECTOR]: 0x1a,
}
const QUEUE_SELECT_COMMON = 0x16

/** Start and width of the register at each byte. */
const starts = new Uint8Array(CONFIG_WITH_MSIX)
const widths = new Uint8Array(CONFIG_WITH_MSIX)
for (const [start, width] of [
  [DEVICE_FEATURES, 4],
  [DRIVER_FEATURES, 4],
  [QUEUE_ADDRESS, 4],
  [QUEUE_SIZE, 2],
  [QUEUE_SELECT, 2],
  [LEGACY_QUEUE_NOTIFY, 2],
  [DEVICE_STATUS, 1],
  [ISR_STATUS, 1],
  [CONFIG_MSIX_VECTOR, 2],
  [QUEUE_MSIX_VECTOR, 2],
] as const) {
  starts.fill(start, start, start + width)
  widths.fill(width, start, start + width)
}

/** Ports that the interface of a device takes: a power of two. */
export function legacyBarBytes(device: VirtioDevice): number {
  let size = 32
  while (size < CONFIG_WITH_MSIX + device.model.configBytes) size *= 2
  return size
}

/** What of the transport the legacy registers reach. */
export interface LegacyLinks {
  readonly msixEnabled: boolean
  /** Reads, and thereby clears. */
  readIsr(): number
}

/**
 * The interface from before VirtIO 1.0, which boot loaders and old systems use. It shows the first
 * 32 features, has no FEATURES_OK, and takes one page number for all three parts of a queue.
 */
export class LegacyRegisters {
  readonly #device: VirtioDevice
  readonly #common: CommonConfig
  readonly #links: LegacyLinks

  constructor(device: VirtioDevice, common: CommonConfig, links: LegacyLinks) {
    this.#device = device
    this.#common = common
    this.#links = links
  }

  /** Reads 1, 2 or 4 bytes of the BAR. */
  read(offset: number, size: number): number {
    const config = this.#configStart
    if (offset >= config) return this.#device.configRead(offset - config, size)
    const start = starts[offset] ?? 0
    const value = this.#get(start)
    const shifted = Math.floor(value / 2 ** (8 * (offset - start)))
    return size >= 4 ? shifted : shifted % 2 ** (8 * size)
  }

  /** Writes 1, 2 or 4 bytes of the BAR; to a register of more bytes than that, nothing. */
  write(offset: number, size: number, value: number): void {
    const config = this.#configStart
    if (offset >= config) this.#device.configWrite(offset - config, size, value)
    else if (starts[offset] === offset && size >= (widths[offset] ?? 0)) this.#set(offset, value)
  }

  get #configStart(): number {
    return this.#links.msixEnabled ? CONFIG_WITH_MSIX : CONFIG_WITHOUT_MSIX
  }

  get #selected(): number {
    return this.#common.read(QUEUE_SELECT_COMMON, 2)
  }

  #get(register: number): number {
    const device = this.#device
    const common = COMMON[register]
    if (common !== undefined) return this.#common.read(common, 2)
    switch (register) {
      case DEVICE_FEATURES:
        return device.offeredWord(0)
      case DRIVER_FEATURES:
        return device.driverWord(0)
      case QUEUE_ADDRESS: {
        const queue = device.queues[this.#selected]
        return queue?.ready ? Math.floor(queue.layout.descGpa / LEGACY_PAGE) : 0
      }
      case DEVICE_STATUS:
        return device.status
      case ISR_STATUS:
        return this.#links.readIsr()
      default:
        return 0
    }
  }

  #set(register: number, value: number): void {
    const device = this.#device
    switch (register) {
      case DRIVER_FEATURES:
        device.acceptLegacy(value)
        return
      case QUEUE_ADDRESS:
        this.#setAddress(value >>> 0)
        return
      case LEGACY_QUEUE_NOTIFY:
        device.notify(value & 0xffff)
        return
      case DEVICE_STATUS:
        device.writeLegacyStatus(value & 0xff)
        return
      case QUEUE_SELECT:
      case CONFIG_MSIX_VECTOR:
      case QUEUE_MSIX_VECTOR:
        this.#common.write(COMMON[register]!, 2, value & 0xffff)
        return
      default:
    }
  }

  /** Section 2.7.2: the used ring begins a page behind the others. */
  #setAddress(page: number): void {
    const queue = this.#device.queues[this.#selected]
    if (queue === undefined) return
    if (page === 0) {
      this.#device.stopQueue(queue.index)
      return
    }
    queue.size = queue.maxSize
    const desc = page * LEGACY_PAGE
    const avail = desc + 16 * queue.maxSize
    const used = Math.ceil((avail + availBytes(queue.maxSize)) / LEGACY_PAGE) * LEGACY_PAGE
    for (const [i, gpa] of [desc, avail, used].entries()) {
      queue.setAddressWord(2 * i, gpa % 2 ** 32)
      queue.setAddressWord(2 * i + 1, Math.floor(gpa / 2 ** 32))
    }
    this.#device.enableQueue(queue.index)
  }
}
