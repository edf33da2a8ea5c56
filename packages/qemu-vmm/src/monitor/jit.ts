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

/**
 * The table of `info jit`.
 * @throws MonitorError where the processor executes the guest itself
 */
export function formatJit(stats: Readonly<Record<string, number>>): string {
  if (!('translations' in stats))
    throw new MonitorError('JIT information is only available with accel=tcg')
  return ROWS.map(([name, what]) => `${what.padEnd(28)}${stats[name] ?? 0}\n`).join('')
}
