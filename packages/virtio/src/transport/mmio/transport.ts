import type { VirtioDevice, VirtioDeviceState } from '../../device.ts'
import type { Interrupt } from '../../memory.ts'
import { int, opaque, parseState } from '../../state.ts'

/** Registers (VirtIO 1.2, section 4.2.2). */
const MAGIC_VALUE = 0x000
const VERSION = 0x004
const DEVICE_ID = 0x008
const VENDOR_ID = 0x00c
const DEVICE_FEATURES = 0x010
const DEVICE_FEATURES_SEL = 0x014
const DRIVER_FEATURES = 0x020
const DRIVER_FEATURES_SEL = 0x024
const QUEUE_SEL = 0x030
const QUEUE_SIZE_MAX = 0x034
const QUEUE_SIZE = 0x038
const QUEUE_READY = 0x044
const QUEUE_NOTIFY = 0x050
const INTERRUPT_STATUS = 0x060
const INTERRUPT_ACK = 0x064
const STATUS = 0x070
const SHM_LEN_LOW = 0x0b0
const SHM_BASE_HIGH = 0x0bc
const QUEUE_RESET = 0x0c0
const CONFIG_GENERATION = 0x0fc
const CONFIG = 0x100

/** Words of the queue's addresses by register: low and high of table, driver and device area. */
const addressWords = new Map([
  [0x080, 0],
  [0x084, 1],
  [0x090, 2],
  [0x094, 3],
  [0x0a0, 4],
  [0x0a4, 5],
])

const MAGIC = 0x7472_6976
const MODERN_VERSION = 2
/** "QEMU", which is what drivers see from QEMU, too. */
const VENDOR = 0x554d_4551
const INTERRUPT_QUEUE = 1
const INTERRUPT_CONFIG = 2

/** The interrupt line of the device. */
export interface MmioInterrupt {
  set(level: boolean): void
}

export interface VirtioMmioState {
  device: VirtioDeviceState
  deviceFeaturesSel: number
  driverFeaturesSel: number
  queueSel: number
  interruptStatus: number
}

/** The registers of a virtio device on a memory-mapped bus, version 2: 512 bytes. */
export class VirtioMmioTransport implements Interrupt {
  readonly device: VirtioDevice
  /** Bytes of the register block. */
  readonly size: number = 0x200
  /** Where in the block a 32-bit write of a queue's index kicks it. */
  readonly notifyOffset: number = QUEUE_NOTIFY
  readonly #irq: MmioInterrupt
  #deviceFeaturesSel = 0
  #driverFeaturesSel = 0
  #queueSel = 0
  #interruptStatus = 0

  constructor(device: VirtioDevice, irq: MmioInterrupt) {
    this.device = device
    this.#irq = irq
    device.connect(this)
    device.onReset = () => this.#resetRegisters()
  }

  /** Registers are 32 bits wide; only the configuration space takes other sizes. */
  read(offset: number, size: number): number {
    if (offset >= CONFIG) return this.device.configRead(offset - CONFIG, size)
    if (size !== 4 || offset % 4 !== 0) return 0
    const { device } = this
    const queue = device.queues[this.#queueSel]
    const word = addressWords.get(offset)
    if (word !== undefined) return queue?.addressWord(word) ?? 0
    // There is no shared memory: its length and base read as all ones.
    if (offset >= SHM_LEN_LOW && offset <= SHM_BASE_HIGH) return 0xffff_ffff
    switch (offset) {
      case MAGIC_VALUE:
        return MAGIC
      case VERSION:
        return MODERN_VERSION
      case DEVICE_ID:
        return device.model.type
      case VENDOR_ID:
        return VENDOR
      case DEVICE_FEATURES:
        return device.offeredWord(this.#deviceFeaturesSel)
      case QUEUE_SIZE_MAX:
        return queue?.maxSize ?? 0
      case QUEUE_READY:
        return queue?.ready ? 1 : 0
      case INTERRUPT_STATUS:
        return this.#interruptStatus
      case STATUS:
        return device.status
      case QUEUE_RESET:
        return queue !== undefined && !queue.ready && queue.inFlight > 0 ? 1 : 0
      case CONFIG_GENERATION:
        return device.configGeneration
      default:
        return 0
    }
  }

  write(offset: number, size: number, value: number): void {
    if (offset >= CONFIG) return this.device.configWrite(offset - CONFIG, size, value)
    if (size !== 4 || offset % 4 !== 0) return
    const { device } = this
    const queue = device.queues[this.#queueSel]
    const word = addressWords.get(offset)
    if (word !== undefined) return queue?.setAddressWord(word, value)
    switch (offset) {
      case DEVICE_FEATURES_SEL:
        this.#deviceFeaturesSel = value >>> 0
        return
      case DRIVER_FEATURES_SEL:
        this.#driverFeaturesSel = value >>> 0
        return
      case DRIVER_FEATURES:
        return device.setDriverWord(this.#driverFeaturesSel, value)
      case QUEUE_SEL:
        this.#queueSel = value >>> 0
        return
      case QUEUE_SIZE:
        // More than 16 bits must not become a size that could be.
        if (queue !== undefined) queue.size = value > 0xffff ? 0 : value
        return
      case QUEUE_READY:
        if (queue !== undefined) this.#setReady(queue.index, value)
        return
      case QUEUE_NOTIFY:
        return this.notifyQueue(value >>> 0)
      case INTERRUPT_ACK:
        this.#interruptStatus &= ~value
        this.#irq.set(this.#interruptStatus !== 0)
        return
      case STATUS:
        return device.writeStatus(value)
      case QUEUE_RESET:
        if (queue !== undefined && value === 1) device.resetQueue(queue.index)
        return
      default:
    }
  }

  /** A kick, from the register or from an ioeventfd with the queue's index as datamatch. */
  notifyQueue(index: number): void {
    this.device.notify(index)
  }

  queue(): void {
    this.#raise(INTERRUPT_QUEUE)
  }

  config(): void {
    this.#raise(INTERRUPT_CONFIG)
  }

  reset(): void {
    this.device.reset()
  }

  save(): VirtioMmioState {
    return {
      device: this.device.save(),
      deviceFeaturesSel: this.#deviceFeaturesSel,
      driverFeaturesSel: this.#driverFeaturesSel,
      queueSel: this.#queueSel,
      interruptStatus: this.#interruptStatus,
    }
  }

  /** Guest memory must be loaded before; `device.resume()` comes after. */
  load(state: VirtioMmioState): void {
    const s = parseState<VirtioMmioState>(`${this.device.model.name} on MMIO`, state, {
      device: opaque as never,
      deviceFeaturesSel: int(0, 0xffff_ffff),
      driverFeaturesSel: int(0, 0xffff_ffff),
      queueSel: int(0, 0xffff_ffff),
      interruptStatus: int(0, INTERRUPT_QUEUE | INTERRUPT_CONFIG),
    })
    this.device.load(s.device)
    this.#deviceFeaturesSel = s.deviceFeaturesSel
    this.#driverFeaturesSel = s.driverFeaturesSel
    this.#queueSel = s.queueSel
    this.#interruptStatus = s.interruptStatus
    this.#irq.set(s.interruptStatus !== 0)
  }

  #setReady(index: number, value: number): void {
    if (value === 1) this.device.enableQueue(index)
    // Drivers of this transport stop a queue by writing 0 (section 4.2.2.2).
    else if (value === 0) this.device.stopQueue(index)
  }

  #raise(bit: number): void {
    this.#interruptStatus |= bit
    this.#irq.set(true)
  }

  #resetRegisters(): void {
    this.#deviceFeaturesSel = 0
    this.#driverFeaturesSel = 0
    this.#queueSel = 0
    this.#interruptStatus = 0
    this.#irq.set(false)
  }
}
