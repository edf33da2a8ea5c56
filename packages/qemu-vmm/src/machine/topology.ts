import { VmmError } from '../errors.ts'

/** What `-smp` says: absent numbers are worked out from the others. */
export interface SmpConfig {
  cpus?: number
  sockets?: number
  dies?: number
  cores?: number
  threads?: number
  maxcpus?: number
}

/** How the logical processors of a machine are arranged; the product of the levels is `maxcpus`. */
export interface CpuTopology {
  /** Processors that the machine has. */
  readonly cpus: number
  /** Processors that there are places for. */
  readonly maxcpus: number
  readonly sockets: number
  /** Dies in a socket. */
  readonly dies: number
  /** Cores in a die. */
  readonly cores: number
  /** Threads in a core. */
  readonly threads: number
}

/** One local APIC each with an id of eight bits, of which the last one means all of them. */
export const MAX_CPUS = 255
const MAX_APIC_ID = 254
const LEVELS = ['sockets', 'dies', 'cores', 'threads'] as const
const KEYS: readonly string[] = ['cpus', 'maxcpus', ...LEVELS]

/**
 * Works out what is not given as QEMU 7.2 does: cores are preferred over sockets, and sockets over
 * threads.
 *
 * @param config the numbers that are given, or a number of processors alone
 * @param machine what the machine is called in messages
 * @throws VmmError E_CPUS for numbers that are out of range or do not fit together
 */
export function resolveTopology(config: SmpConfig | number, machine: string): CpuTopology {
  const given = typeof config === 'number' ? { cpus: config } : config
  checkGiven(given, machine)
  const topology = complete(given)
  const { cpus, maxcpus, sockets, dies, cores, threads } = topology
  const product = `sockets (${sockets}) * dies (${dies}) * cores (${cores}) * threads (${threads})`
  if (sockets * dies * cores * threads !== maxcpus) {
    throw bad(
      'Invalid CPU topology: product of the hierarchy must match maxcpus: ' +
        `${product} != maxcpus (${maxcpus})`,
    )
  }
  if (maxcpus < cpus) {
    throw bad(
      'Invalid CPU topology: maxcpus must be equal to or greater than smp: ' +
        `${product} == maxcpus (${maxcpus}) < smp_cpus (${cpus})`,
    )
  }
  if (maxcpus > MAX_CPUS) throw tooMany(maxcpus, machine)
  const last = apicId(topology, maxcpus - 1)
  if (last > MAX_APIC_ID) {
    throw bad(
      `Invalid CPU topology: the last processor would have the APIC ID ${last}, and the highest ` +
        `is ${MAX_APIC_ID}; use numbers of dies, cores and threads that are powers of two, or ` +
        'fewer processors',
    )
  }
  return topology
}

function checkGiven(given: SmpConfig, machine: string): void {
  for (const [key, value] of Object.entries(given) as [string, unknown][]) {
    if (!KEYS.includes(key)) {
      throw bad(`cpus has no '${key}'; it can have ${KEYS.join(', ')}`)
    }
    if (typeof value !== 'number' || !Number.isInteger(value)) {
      throw bad(`Parameter 'smp.${key}' expects an integer, not '${String(value)}'`)
    }
    if (value < 1) {
      throw bad(
        `Invalid CPU topology: ${key} is ${value}, and CPU topology parameters must be greater ` +
          `than zero; machine '${machine}' has 1 to ${MAX_CPUS} processors`,
      )
    }
    // Beyond this the product of all levels would not be exact.
    if (value > MAX_CPUS) throw tooMany(value, machine)
  }
}

function complete(given: SmpConfig): CpuTopology {
  const { dies = 1 } = given
  let { cpus, maxcpus, sockets, cores, threads } = given
  if (cpus === undefined && maxcpus === undefined) {
    sockets ??= 1
    cores ??= 1
    threads ??= 1
  } else {
    const all = (maxcpus ??= cpus ?? 1)
    const share = (...levels: number[]): number =>
      Math.floor(all / levels.reduce((product, level) => product * level, dies))
    if (cores === undefined) {
      sockets ??= 1
      threads ??= 1
      cores = share(sockets, threads)
    } else if (sockets === undefined) {
      threads ??= 1
      sockets = share(cores, threads)
    }
    threads ??= share(sockets, cores)
  }
  maxcpus ??= sockets * dies * cores * threads
  cpus ??= maxcpus
  return { cpus, maxcpus, sockets, dies, cores, threads }
}

/** Where the fields of an APIC id begin, as bit numbers; each level has room for a power of two. */
export interface ApicIdShifts {
  core: number
  die: number
  socket: number
}

export function apicIdShifts({ dies, cores, threads }: CpuTopology): ApicIdShifts {
  const core = bitsFor(threads)
  const die = core + bitsFor(cores)
  return { core, die, socket: die + bitsFor(dies) }
}

/** The APIC id of the processor with this index: threads are counted first, sockets last. */
export function apicId(topology: CpuTopology, index: number): number {
  const { dies, cores, threads } = topology
  const shifts = apicIdShifts(topology)
  const core = Math.floor(index / threads)
  const die = Math.floor(core / cores)
  const socket = Math.floor(die / dies)
  return (
    (index % threads) |
    ((core % cores) << shifts.core) |
    ((die % dies) << shifts.die) |
    (socket << shifts.socket)
  )
}

/** Bits that tell `count` things apart. */
function bitsFor(count: number): number {
  return 32 - Math.clz32(count - 1)
}

function tooMany(count: number, machine: string): VmmError {
  return bad(
    `Invalid SMP CPUs ${count}. The max CPUs supported by machine '${machine}' is ${MAX_CPUS}`,
    { cpus: count, limit: MAX_CPUS },
  )
}

function bad(message: string, fields: Record<string, number> = {}): VmmError {
  return new VmmError('E_CPUS', message, { fields })
}
