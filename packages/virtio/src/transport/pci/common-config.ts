import type { VirtioDevice } from '../../device.ts'
import { int, list, parseState } from '../../state.ts'

/** "No vector" of the MSI-X vector registers. */
export const VIRTIO_MSI_NO_VECTOR = 0xffff

/** Offsets of `struct virtio_pci_common_cfg` (VirtIO 1.2, section 4.1.4.3). */
const DEVICE_FEATURE_SELECT = 0x00
const DEVICE_FEATURE = 0x04
const DRIVER_FEATURE_SELECT = 0x08
const DRIVER_FEATURE = 0x0c
const CONFIG_MSIX_VECTOR = 0x10
const NUM_QUEUES = 0x12
const DEVICE_STATUS = 0x14
const CONFIG_GENERATION = 0x15
const QUEUE_SELECT = 0x16
const QUEUE_SIZE = 0x18
const QUEUE_MSIX_VECTOR = 0x1a
const QUEUE_ENABLE = 0x1c
const QUEUE_NOTIFY_OFF = 0x1e
const QUEUE_DESC = 0x20
const QUEUE_DEVICE_END = 0x38
const QUEUE_NOTIFY_DATA = 0x38
const QUEUE_RESET = 0x3a

/** First byte and width of the field at each byte. */
const fieldStart = new Uint8Array(0x3c)
const fieldBytes = new Uint8Array(0x3c)
for (const [start, size] of [
  [DEVICE_FEATURE_SELECT, 4],
  [DEVICE_FEATURE, 4],
  [DRIVER_FEATURE_SELECT, 4],
  [DRIVER_FEATURE, 4],
  [CONFIG_MSIX_VECTOR, 2],
  [NUM_QUEUES, 2],
  [DEVICE_STATUS, 1],
  [CONFIG_GENERATION, 1],
  [QUEUE_SELECT, 2],
  [QUEUE_SIZE, 2],
  [QUEUE_MSIX_VECTOR, 2],
  [QUEUE_ENABLE, 2],
  [QUEUE_NOTIFY_OFF, 2],
  ...[0, 4, 8, 12, 16, 20].map((at) => [QUEUE_DESC + at, 4] as const),
  [QUEUE_NOTIFY_DATA, 2],
  [QUEUE_RESET, 2],
] as const) {
  fieldStart.fill(start, start, start + size)
  fieldBytes.fill(size, start, start + size)
}

export interface CommonConfigState {
  deviceFeatureSelect: number
  driverFeatureSelect: number
  queueSelect: number
  configVector: number
  queueVectors: number[]
}

/** The common configuration structure: registers of the device and of a selected queue. */
export class CommonConfig {
  readonly #device: VirtioDevice
  readonly #vectors: () => number
  #deviceFeatureSelect = 0
  #driverFeatureSelect = 0
  #queueSelect = 0
  configVector: number = VIRTIO_MSI_NO_VECTOR
  readonly queueVectors: Uint16Array

  /** `vectors` tells how many MSI-X vectors there are. */
  constructor(device: VirtioDevice, vectors: () => number) {
    this.#device = device
    this.#vectors = vectors
    this.queueVectors = new Uint16Array(device.queues.length).fill(VIRTIO_MSI_NO_VECTOR)
  }

  read(offset: number, size: number): number {
    if (fieldStart[offset] === offset && fieldBytes[offset] === size) return this.#get(offset)
    // Not the width that section 4.1.3.1 asks for: taken together from bytes.
    let value = 0
    for (let i = 0; i < size; i++) {
      const at = offset + i
      const start = fieldStart[at]
      if (start === undefined) break
      value += ((this.#get(start) >>> (8 * (at - start))) & 0xff) * 2 ** (8 * i)
    }
    return value
  }

  write(offset: number, size: number, value: number): void {
    for (let at = offset; at < offset + size;) {
      const width = fieldBytes[at]
      if (width === undefined || fieldStart[at] !== at || at + width > offset + size) return
      const shifted = Math.floor(value / 2 ** (8 * (at - offset)))
      this.#set(at, width === 4 ? shifted >>> 0 : shifted & (2 ** (8 * width) - 1))
      at += width
    }
  }

  /** What the device's reset does not do itself. */
  reset(): void {
    this.#deviceFeatureSelect = 0
    this.#driverFeatureSelect = 0
    this.#queueSelect = 0
    this.configVector = VIRTIO_MSI_NO_VECTOR
    this.queueVectors.fill(VIRTIO_MSI_NO_VECTOR)
  }

  save(): CommonConfigState {
    return {
      deviceFeatureSelect: this.#deviceFeatureSelect,
      driverFeatureSelect: this.#driverFeatureSelect,
      queueSelect: this.#queueSelect,
      configVector: this.configVector,
      queueVectors: [...this.queueVectors],
    }
  }

  load(state: CommonConfigState): void {
    const count = this.queueVectors.length
    const word = int(0, 0xffff_ffff)
    const short = int(0, 0xffff)
    const s = parseState<CommonConfigState>(`${this.#device.model.name} registers`, state, {
      deviceFeatureSelect: word,
      driverFeatureSelect: word,
      queueSelect: short,
      configVector: short,
      queueVectors: list(short, count, count),
    })
    this.#deviceFeatureSelect = s.deviceFeatureSelect
    this.#driverFeatureSelect = s.driverFeatureSelect
    this.#queueSelect = s.queueSelect
    this.configVector = s.configVector
    this.queueVectors.set(s.queueVectors)
  }

  #get(field: number): number {
    const device = this.#device
    const select = this.#queueSelect
    const queue = device.queues[select]
    if (field >= QUEUE_DESC && field < QUEUE_DEVICE_END) {
      return queue?.addressWord((field - QUEUE_DESC) >> 2) ?? 0
    }
    switch (field) {
      case DEVICE_FEATURE_SELECT:
        return this.#deviceFeatureSelect
      case DEVICE_FEATURE:
        return device.offeredWord(this.#deviceFeatureSelect)
      case DRIVER_FEATURE_SELECT:
        return this.#driverFeatureSelect
      case DRIVER_FEATURE:
        return device.driverWord(this.#driverFeatureSelect)
      case CONFIG_MSIX_VECTOR:
        return this.configVector
      case NUM_QUEUES:
        return device.queues.length
      case DEVICE_STATUS:
        return device.status
      case CONFIG_GENERATION:
        return device.configGeneration
      case QUEUE_SELECT:
        return select
      case QUEUE_SIZE:
        return queue?.size ?? 0
      case QUEUE_MSIX_VECTOR:
        return this.queueVectors[select] ?? VIRTIO_MSI_NO_VECTOR
      case QUEUE_ENABLE:
        return queue?.ready ? 1 : 0
      case QUEUE_NOTIFY_OFF:
        return queue === undefined ? 0 : select
      case QUEUE_RESET:
        return queue !== undefined && !queue.ready && queue.inFlight > 0 ? 1 : 0
      default:
        return 0
    }
  }

  #set(field: number, value: number): void {
    const device = this.#device
    const queue = device.queues[this.#queueSelect]
    if (field >= QUEUE_DESC && field < QUEUE_DEVICE_END) {
      queue?.setAddressWord((field - QUEUE_DESC) >> 2, value)
      return
    }
    switch (field) {
      case DEVICE_FEATURE_SELECT:
        this.#deviceFeatureSelect = value
        return
      case DRIVER_FEATURE_SELECT:
        this.#driverFeatureSelect = value
        return
      case DRIVER_FEATURE:
        device.setDriverWord(this.#driverFeatureSelect, value)
        return
      case CONFIG_MSIX_VECTOR:
        this.configVector = this.#vector(value)
        return
      case DEVICE_STATUS:
        device.writeStatus(value)
        return
      case QUEUE_SELECT:
        this.#queueSelect = value
        return
      case QUEUE_SIZE:
        if (queue !== undefined) queue.size = value
        return
      case QUEUE_MSIX_VECTOR:
        if (queue !== undefined) this.queueVectors[queue.index] = this.#vector(value)
        return
      case QUEUE_ENABLE:
        if (queue !== undefined && value === 1) device.enableQueue(queue.index)
        return
      case QUEUE_RESET:
        if (queue !== undefined && value === 1) device.resetQueue(queue.index)
        return
      default:
    }
  }

  /** A driver reads back whether a vector could be had (section 4.1.5.1.2). */
  #vector(value: number): number {
    return value < this.#vectors() ? value : VIRTIO_MSI_NO_VECTOR
  }
}
