import { MonitorError } from './command.ts'

/** Counters of the soft engine, all processors together, in the order in which code goes its way. */
const ROWS: readonly (readonly [string, string])[] = [
  ['interpretedInstructions', 'instructions interpreted'],
  ['decodedBlocks', 'blocks decoded'],
  ['evictedBlocks', 'blocks dropped for room'],
  ['invalidatedBlocks', 'blocks dropped as changed'],
  ['translations', 'regions translated'],
  ['codeBytes', 'bytes of host code'],
  ['codeResets', 'times all code was dropped'],
  ['slowPaths', 'calls of the interpreter'],
  ['branchMisses', 'of these for branches'],
]

/** Where processors spend their time, as samples tell. */
const TIMES: readonly (readonly [string, string])[] = [
  ['translatedNs', 'in translated code'],
  ['interpretedNs', 'in the interpreter'],
  ['helperNs', 'in it for translated code'],
  ['deviceNs', 'waiting for devices'],
]

/**
 * The table of `info jit`.
 * @throws MonitorError where the processor executes the guest itself
 */
export function formatJit(stats: Readonly<Record<string, number>>): string {
  if (!('translations' in stats))
    throw new MonitorError('JIT information is only available with accel=tcg')
  const rows = ROWS.map(([name, what]) => `${what.padEnd(28)}${stats[name] ?? 0}\n`)
  return [...rows, ...times(stats)].join('')
}

function times(stats: Readonly<Record<string, number>>): string[] {
  const of = (name: string): number => stats[name] ?? 0
  const total = TIMES.reduce((sum, [name]) => sum + of(name), 0)
  return TIMES.map(([name, what]) => {
    const percent = total === 0 ? 0 : (of(name) / total) * 100
    const seconds = (of(name) / 1e9).toFixed(2)
    return `${what.padEnd(28)}${seconds} s (${percent.toFixed(1)} %)\n`
  })
}
