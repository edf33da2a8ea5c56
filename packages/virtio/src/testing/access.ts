import type { VirtioDevice } from '../device.ts'
import type { QueueLayout } from '../queue/layout.ts'

/** How a driver reaches a device. */
export interface DriverAccess {
  status(): number
  setStatus(value: number): void
  offeredFeatures(): bigint
  setFeatures(features: bigint): void
  queueCount(): number
  maxSize(queue: number): number
  enableQueue(queue: number, layout: QueueLayout): void
  notify(queue: number): void
  configRead(offset: number, size: number): number
}

/** A block of registers, as a bus sees it. */
export interface Registers {
  read(offset: number, size: number): number
  write(offset: number, size: number, value: number): void
}

function words(layout: QueueLayout): number[] {
  const { descGpa, availGpa, usedGpa } = layout
  return [descGpa, availGpa, usedGpa].flatMap((gpa) => [gpa % 2 ** 32, Math.floor(gpa / 2 ** 32)])
}

/** The device without a transport. */
export function directAccess(device: VirtioDevice): DriverAccess {
  return {
    status: () => device.status,
    setStatus: (value) => device.writeStatus(value),
    offeredFeatures: () => device.offeredFeatures,
    setFeatures(features) {
      device.setDriverWord(0, Number(features & 0xffff_ffffn))
      device.setDriverWord(1, Number(features >> 32n))
    },
    queueCount: () => device.queues.length,
    maxSize: (queue) => device.queues[queue]?.maxSize ?? 0,
    enableQueue(index, layout) {
      const queue = device.queues[index]
      if (queue === undefined) return
      queue.size = layout.size
      for (const [at, word] of words(layout).entries()) queue.setAddressWord(at, word)
      device.enableQueue(index)
    },
    notify: (queue) => device.notify(queue),
    configRead: (offset, size) => device.configRead(offset, size),
  }
}

/** Through the registers of virtio-pci's memory BAR (VirtIO 1.2, section 4.1.4). */
export function pciAccess(bar: Registers): DriverAccess {
  return {
    status: () => bar.read(0x14, 1),
    setStatus: (value) => bar.write(0x14, 1, value),
    offeredFeatures() {
      bar.write(0x00, 4, 0)
      const low = BigInt(bar.read(0x04, 4))
      bar.write(0x00, 4, 1)
      return low | (BigInt(bar.read(0x04, 4)) << 32n)
    },
    setFeatures(features) {
      for (const select of [0, 1]) {
        bar.write(0x08, 4, select)
        bar.write(0x0c, 4, Number((features >> BigInt(32 * select)) & 0xffff_ffffn))
      }
    },
    queueCount: () => bar.read(0x12, 2),
    maxSize(queue) {
      bar.write(0x16, 2, queue)
      return bar.read(0x18, 2)
    },
    enableQueue(queue, layout) {
      bar.write(0x16, 2, queue)
      bar.write(0x18, 2, layout.size)
      for (const [at, word] of words(layout).entries()) bar.write(0x20 + 4 * at, 4, word)
      bar.write(0x1a, 2, queue)
      bar.write(0x1c, 2, 1)
    },
    notify(queue) {
      bar.write(0x16, 2, queue)
      bar.write(0x3000 + 4 * bar.read(0x1e, 2), 2, queue)
    },
    configRead: (offset, size) => bar.read(0x2000 + offset, size),
  }
}

/** Through the registers of virtio-mmio (VirtIO 1.2, section 4.2.2). */
export function mmioAccess(block: Registers): DriverAccess {
  return {
    status: () => block.read(0x70, 4),
    setStatus: (value) => block.write(0x70, 4, value),
    offeredFeatures() {
      block.write(0x14, 4, 0)
      const low = BigInt(block.read(0x10, 4))
      block.write(0x14, 4, 1)
      return low | (BigInt(block.read(0x10, 4)) << 32n)
    },
    setFeatures(features) {
      for (const select of [0, 1]) {
        block.write(0x24, 4, select)
        block.write(0x20, 4, Number((features >> BigInt(32 * select)) & 0xffff_ffffn))
      }
    },
    queueCount() {
      for (let queue = 0; ; queue++) {
        block.write(0x30, 4, queue)
        if (block.read(0x34, 4) === 0) return queue
      }
    },
    maxSize(queue) {
      block.write(0x30, 4, queue)
      return block.read(0x34, 4)
    },
    enableQueue(queue, layout) {
      block.write(0x30, 4, queue)
      block.write(0x38, 4, layout.size)
      const registers = [0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4]
      for (const [at, word] of words(layout).entries()) block.write(registers[at]!, 4, word)
      block.write(0x44, 4, 1)
    },
    notify: (queue) => block.write(0x50, 4, queue),
    configRead: (offset, size) => block.read(0x100 + offset, size),
  }
}
