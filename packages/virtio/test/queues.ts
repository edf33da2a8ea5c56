import { Virtqueue } from 'virtio'
import { DriverQueue, FakeMemory } from 'virtio/testing'

const RINGS = 0x1000
export const DATA = 0x8000
export const TABLE = 0x7000

interface Options {
  size?: number
  eventIdx?: boolean
  indirect?: boolean
  /** Where all indices begin. */
  startIdx?: number
  memory?: FakeMemory
}

export function connect(options: Options = {}): {
  memory: FakeMemory
  driver: DriverQueue
  queue: Virtqueue
} {
  const { size = 8, eventIdx = false, indirect = true, startIdx = 0 } = options
  const memory = options.memory ?? new FakeMemory()
  const driver = new DriverQueue(memory, { gpa: RINGS, size, eventIdx, startIdx })
  const queue = new Virtqueue(memory, 0, 256)
  place(queue, driver.layout)
  const features = { eventIdx, indirect }
  queue.enable(features)
  if (startIdx !== 0) {
    queue.load(
      { ...queue.save(), lastAvail: startIdx, usedIdx: startIdx, signalled: startIdx },
      features,
    )
  }
  return { memory, driver, queue }
}

export function place(
  queue: Virtqueue,
  layout: { size: number; descGpa: number; availGpa: number; usedGpa: number },
): void {
  queue.size = layout.size
  for (const [at, gpa] of [layout.descGpa, layout.availGpa, layout.usedGpa].entries()) {
    queue.setAddressWord(2 * at, gpa % 2 ** 32)
    queue.setAddressWord(2 * at + 1, Math.floor(gpa / 2 ** 32))
  }
}
