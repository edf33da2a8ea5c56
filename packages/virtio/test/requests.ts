import type { FakeDriver } from 'virtio/testing'

/** Lets promises and what follows them run, and a turn of the event loop end. */
export async function turns(count: number = 20): Promise<void> {
  for (let i = 0; i < count; i++) await Promise.resolve()
  await new Promise((resolve) => setImmediate(resolve))
}

export interface BlkRequest {
  type: number
  sector: number
  /** Bytes that the device writes. */
  length?: number
  /** Bytes that the device reads. */
  data?: Uint8Array
  queue?: number
}

/** Where requests put their data; header and status are before it. */
export const DATA_GPA = 0x2_0000

/** One request at a time; the status, or -1 when it was not answered. */
export async function blkRequest(driver: FakeDriver, request: BlkRequest): Promise<number> {
  const { type, sector, length = 0, data, queue = 0 } = request
  const header = driver.memory.view(0x1_8000, 16)
  header.setUint32(0, type, true)
  header.setUint32(4, 0, true)
  header.setBigUint64(8, BigInt(sector), true)
  const statusGpa = 0x1_9000
  driver.memory.view(statusGpa, 1).setUint8(0, 0xff)
  if (data) driver.memory.write(DATA_GPA, data)
  const ring = driver.queue(queue)
  ring.submit([
    { gpa: 0x1_8000, length: 16 },
    ...(data ? [{ gpa: DATA_GPA, length: data.length }] : []),
    ...(length > 0 ? [{ gpa: DATA_GPA, length, writable: true }] : []),
    { gpa: statusGpa, length: 1, writable: true },
  ])
  driver.kick(queue)
  for (let i = 0; i < 20; i++) {
    await turns()
    if (ring.takeUsed().length > 0) return driver.memory.view(statusGpa, 1).getUint8(0)
  }
  return -1
}
