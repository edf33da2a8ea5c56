// What the device side of a virtqueue costs: popping one chain of three descriptors, as a block request has, and pushing it
// used. The driver's part, which makes it available again, is two stores and inside the measured time.
import { Virtqueue } from 'virtio'
import { DriverQueue, FakeMemory } from 'virtio/testing'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { median, rounded } from '../lib/paired.ts'

const queueSize = 256
const ringsGpa = 0x1000
const tableGpa = 0x8000
const batch = 10_000

/** A queue whose ring always offers the same chain. */
function connect(indirect: boolean): { queue: Virtqueue; avail: Uint16Array } {
  const memory = new FakeMemory([{ gpa: 0, bytes: 1 << 16 }])
  memory.record = false
  const driver = new DriverQueue(memory, { gpa: ringsGpa, size: queueSize, eventIdx: true })
  const buffers = [
    { gpa: 0xa000, length: 16 },
    { gpa: 0xb000, length: 4096, writable: true },
    { gpa: 0xa100, length: 1, writable: true },
  ]
  const head = driver.submit(buffers, indirect ? tableGpa : undefined)
  const { descGpa, availGpa, usedGpa } = driver.layout
  const queue = new Virtqueue(memory, 0, queueSize)
  for (const [at, gpa] of [descGpa, availGpa, usedGpa].entries()) queue.setAddressWord(2 * at, gpa)
  queue.enable({ eventIdx: true, indirect: true })
  const { buffer, byteOffset } = memory.window(availGpa, 6 + 2 * queueSize)
  const avail = new Uint16Array(buffer, byteOffset, 3 + queueSize)
  avail.fill(head, 2, 2 + queueSize)
  return { queue, avail }
}

/** Nanoseconds for each of many chains, made available in groups. */
function chainNs(indirect: boolean, group: number, rounds: number): number {
  const { queue, avail } = connect(indirect)
  const samples: number[] = []
  let idx = 0
  let total = 0
  for (let round = 0; round < rounds; round++) {
    // A sum that leaves the small integers would be an allocation for every chain, here and not in the queue.
    let bytes = 0
    const start = process.hrtime.bigint()
    for (let done = 0; done < batch; done += group) {
      idx = (idx + group) & 0xffff
      Atomics.store(avail, 1, idx)
      for (let chain = queue.popChain(); chain !== undefined; chain = queue.popChain()) {
        bytes += chain.writableBytes
        queue.pushUsed(chain, 4097)
      }
      queue.shouldNotify()
    }
    samples.push(Number(process.hrtime.bigint() - start) / batch)
    total += bytes
  }
  // The first chain was offered by the driver itself.
  if (total < 4097 * batch * rounds) throw new Error(`only ${total} bytes were seen`)
  return median(samples)
}

export const name = 'virtqueue'

export async function run(effort: Effort): Promise<Results> {
  const rounds = effort.quick ? 200 : 1000
  const results = {
    chainNs: rounded(chainNs(false, 8, rounds)),
    singleChainNs: rounded(chainNs(false, 1, rounds)),
    indirectChainNs: rounded(chainNs(true, 8, rounds)),
  }
  progress(`three descriptors, in groups of 8: ${results.chainNs} ns`)
  return results
}
