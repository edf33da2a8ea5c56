import test from 'ava'
import { connect } from './queues.ts'

test('buffers that were written to are reported, at once where the memory can', (t) => {
  const { driver, queue, memory } = connect({ size: 16 })
  const at = [0x3000, 0x4000, 0x5000, 0x9000, 0x8000, 0x7000, 0x2000]
  driver.submit(at.map((gpa) => ({ gpa, length: 0x1000, writable: true })))
  const chain = queue.popChain()!
  memory.written.length = 0
  const marked = (offset: number, length: number): number[] => {
    memory.written.length = 0
    chain.markWritten(offset, length)
    t.true(memory.written.every((range) => range.length === 0x1000))
    return memory.written.map(({ gpa }) => gpa)
  }
  t.deepEqual(marked(0, 0x7000), at)
  t.deepEqual(marked(0x800, 0x1000), at.slice(0, 2))
  t.deepEqual(marked(0x1000, 0x1001), at.slice(1, 3))
  t.deepEqual(marked(0x6fff, 0x1000), at.slice(6))
  t.deepEqual(marked(0, 0), [])
  t.deepEqual(marked(0x7000, 1), [])
  const entries: number[][] = []
  Object.assign(memory, {
    markAllWritten(gpas: Float64Array, _lengths: Uint32Array, first: number, end: number): void {
      entries.push([...gpas.subarray(first, end)])
    },
  })
  t.deepEqual(marked(0x1000, 0x2000), [])
  t.deepEqual(entries, [at.slice(1, 3)])
})
