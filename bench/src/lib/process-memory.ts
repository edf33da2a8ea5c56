// What the kernel says about the memory of a process, with guest RAM told apart from the rest.
import { readFileSync } from 'node:fs'

/** KiB of one part of a process. */
export interface Part {
  readonly residentKib: number
  readonly hugeKib: number
}

/** A process: its guest RAM, and everything else. */
export interface ProcessMemory {
  readonly ram: Part
  readonly rest: Part
}

/**
 * Reads /proc/PID/smaps. A mapping is guest RAM when it is as large as the RAM of the machines, give or take alignment.
 * The kernel may join neighbouring mappings: several machines' RAM in one mapping counts as RAM too.
 */
export function processMemory(pid: number, ramBytes: number): ProcessMemory {
  const ram = { residentKib: 0, hugeKib: 0 }
  const rest = { residentKib: 0, hugeKib: 0 }
  let part = rest
  for (const line of readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const range = /^([\da-f]+)-([\da-f]+) /.exec(line)
    if (range) {
      const bytes = Number.parseInt(range[2] ?? '', 16) - Number.parseInt(range[1] ?? '', 16)
      part = bytes >= ramBytes * 0.98 && !line.includes('---p') ? ram : rest
    }
    const [, field, value] = /^(Rss|AnonHugePages):\s+(\d+) kB/.exec(line) ?? []
    if (field === 'Rss') part.residentKib += Number(value)
    if (field === 'AnonHugePages') part.hugeKib += Number(value)
  }
  return { ram, rest }
}
