// What the kernel says about the processor time of a process.
import { readFileSync } from 'node:fs'

/** Of /proc: USER_HZ, which is 100 on every Linux that Node.js runs on. */
const ticksPerSecond = 100

/** Seconds of all threads of a process so far. */
export function processSeconds(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The name, in parentheses, may have anything in it; user and system time are the fields 14 and 15 (proc(5)).
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
}

/** How much of a core a process uses during so many seconds. */
export async function coreShare(pid: number, seconds: number): Promise<number> {
  const before = processSeconds(pid)
  const start = performance.now()
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000))
  return (processSeconds(pid) - before) / ((performance.now() - start) / 1000)
}
