import { accessSync, constants, readFileSync, readdirSync } from 'node:fs'
import { availableParallelism, cpus, freemem, totalmem } from 'node:os'

/** What the host has, as libvirt counts it. */
export interface HostInfo {
  memoryKib: bigint
  cpus: number
  mhz: number
  sockets: number
  cores: number
  threads: number
}

/** Processors of the host by place. */
export function hostInfo(): HostInfo {
  const logical = onlineCpus()
  const sockets = new Set<string>()
  const cores = new Set<string>()
  for (const cpu of logical) {
    const topology = `/sys/devices/system/cpu/cpu${cpu}/topology`
    const socket = readNumber(`${topology}/physical_package_id`)
    sockets.add(socket)
    cores.add(`${socket}/${readNumber(`${topology}/core_id`)}`)
  }
  const perSocket = Math.max(1, Math.floor(cores.size / sockets.size))
  const threads = Math.max(1, Math.floor(logical.length / (perSocket * sockets.size)))
  // Clients multiply: what does not divide evenly is told as that many cores of one socket.
  const divides = sockets.size * perSocket * threads === logical.length
  return {
    memoryKib: BigInt(Math.floor(totalmem() / 1024)),
    cpus: logical.length,
    mhz: cpus()[0]?.speed || frequency(),
    sockets: divides ? sockets.size : 1,
    cores: divides ? perSocket : logical.length,
    threads: divides ? threads : 1,
  }
}

/** MHz as the kernel tells them where it has no driver for them; 0 when it does not know. */
function frequency(): number {
  const line = /^cpu MHz\s*: ([\d.]+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))
  return Math.floor(Number(line?.[1] ?? 0))
}

/** Numbers of the processors that are in use. */
export function onlineCpus(): number[] {
  try {
    const text = readFileSync('/sys/devices/system/cpu/online', 'utf8').trim()
    return text.split(',').flatMap((range) => {
      const [from, to = from] = range.split('-').map(Number)
      return Array.from({ length: to! - from! + 1 }, (_, i) => from! + i)
    })
  } catch {
    return Array.from({ length: availableParallelism() }, (_, i) => i)
  }
}

/** The highest number that a processor may have, plus one. */
export function presentCpus(): number {
  try {
    const folders = readdirSync('/sys/devices/system/cpu').filter((name) => /^cpu\d+$/.test(name))
    return Math.max(...folders.map((name) => Number(name.slice(3)))) + 1
  } catch {
    return onlineCpus().length
  }
}

export function freeBytes(): bigint {
  return BigInt(freemem())
}

/** Time of a processor in nanoseconds since the host was started, or of all with -1; undefined for one that is not there. */
export function cpuStats(cpu: number): Record<string, bigint> | undefined {
  const name = cpu < 0 ? 'cpu' : `cpu${cpu}`
  const line = readFileSync('/proc/stat', 'utf8')
    .split('\n')
    .find((text) => text.startsWith(`${name} `))
  if (line === undefined) return undefined
  const ticks = line
    .trim()
    .split(/\s+/)
    .slice(1)
    .map((text) => BigInt(text) * 10_000_000n)
  const at = (index: number): bigint => ticks[index] ?? 0n
  return {
    kernel: at(2) + at(5) + at(6),
    user: at(0) + at(1),
    idle: at(3),
    iowait: at(4),
  }
}

/** Memory of the host in KiB. */
export function memoryStats(): Record<string, bigint> {
  const text = readFileSync('/proc/meminfo', 'utf8')
  const of = (name: string): bigint =>
    BigInt(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(text)?.[1] ?? 0)
  return {
    total: of('MemTotal'),
    free: of('MemFree'),
    buffers: of('Buffers'),
    cached: of('Cached'),
  }
}

/** Whether guests can run on the host's KVM. */
export function hasKvm(): boolean {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK)
    // The device alone does not make a processor able to.
    return cpuFlags().hasVirtualization
  } catch {
    return false
  }
}

/** The model of the host's processor, as the kernel names it. */
export function cpuFlags(): { vendor: string; hasVirtualization: boolean } {
  const text = readFileSync('/proc/cpuinfo', 'utf8')
  const vendor = /^vendor_id\s*: (.*)$/m.exec(text)?.[1] ?? 'unknown'
  const flags = /^flags\s*: (.*)$/m.exec(text)?.[1]?.split(' ') ?? []
  return { vendor, hasVirtualization: flags.includes('vmx') || flags.includes('svm') }
}

/** Identifies the host: its machine id, which other programs know it by, or the same of zeros. */
export function hostUuid(): string {
  const id = readNumber('/etc/machine-id').padEnd(32, '0').slice(0, 32)
  return id.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}

function readNumber(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return '0'
  }
}
