import { readdirSync } from 'node:fs'
import test from 'ava'
import { cpuTime, lastCpu } from '../src/driver/process.ts'

test('the time of a thread is its own, not that of all', (t) => {
  const { pid } = process
  const threads = readdirSync(`/proc/${pid}/task`).map(Number)
  t.true(threads.length > 1)
  const own = threads.map((thread) => cpuTime(pid, thread).total)
  const all = cpuTime(pid).total
  // Threads that ended are in the sum of the process alone.
  t.true(own.reduce((sum, time) => sum + time) <= all)
  t.true(own.some((time) => time < all))
  t.true(lastCpu(pid, pid) >= 0)
  // One that has ended, or is another's.
  t.is(cpuTime(pid, 1).total, 0n)
})
