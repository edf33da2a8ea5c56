import { BlockError, checkFile } from '../block/index.ts'
import type { CheckResult } from '../block/index.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { outputOf } from './info.ts'
import { REFUSED, about, cacheOf, onlyFile } from './io.ts'
import type { Io } from './io.ts'

const SPEC: OptionSpec = {
  flags: 'qU',
  values: 'frT',
  long: { format: 'f', output: 'output', repair: 'r', 'force-share': 'U' },
  longValues: ['format', 'output', 'repair'],
  refused: REFUSED,
}

/**
 * `qemu-img check [-f FORMAT] [-r leaks|all] [--output=human|json] [-q] [-U] FILE`
 * @returns 0 when all is well, 1 when the check failed, 2 for corruptions, 3 for leaks, 63 when the
 *   format has nothing to check
 */
export async function check(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const filename = onlyFile(args)
  const print = (line: string): void => io.write(`${line}\n`)
  const output = outputOf(last(args, 'output'))
  const repair = last(args, 'r')
  if (repair !== undefined && repair !== 'leaks' && repair !== 'all') {
    throw new UsageError(`Unknown option value for -r (expecting 'leaks' or 'all'): ${repair}`)
  }
  const quiet = args.flags.has('q')
  const human = output === 'human' && !quiet
  const locking = args.flags.has('U') ? 'off' : 'auto'
  let result: CheckResult
  try {
    result = await checkFile(filename, last(args, 'f'), {
      locking,
      cache: cacheOf(args, 'T'),
      ...(repair === undefined ? {} : { repair }),
      ...(human ? { report: print } : {}),
    })
  } catch (error) {
    if (!(error instanceof BlockError)) throw error
    if (error.message !== NO_CHECKS) throw about(`Could not open '${filename}'`, error)
    io.complain(NO_CHECKS)
    return 63
  }
  if (output === 'json') print(json(filename, result))
  else if (!quiet) print(describe(result))
  if (result.checkErrors > 0) return 1
  if (result.corruptions > 0) return 2
  return result.leaks > 0 ? 3 : 0
}

const NO_CHECKS = 'This image format does not support checks'

function json(filename: string, result: CheckResult): string {
  const some = (key: string, value: number) => (value === 0 ? {} : { [key]: value })
  const entries = {
    'image-end-offset': result.imageEndOffset,
    ...some('total-clusters', result.totalClusters),
    'check-errors': result.checkErrors,
    ...some('corruptions', result.corruptions),
    ...some('leaks', result.leaks),
    ...some('corruptions-fixed', result.corruptionsFixed),
    ...some('leaks-fixed', result.leaksFixed),
    ...some('allocated-clusters', result.allocatedClusters),
    ...some('fragmented-clusters', result.fragmentedClusters),
    ...some('compressed-clusters', result.compressedClusters),
    filename,
    format: 'qcow2',
  }
  return JSON.stringify(entries, undefined, 4)
}

function describe(result: CheckResult): string {
  const lines: string[] = []
  if (result.corruptionsFixed > 0 || result.leaksFixed > 0) {
    lines.push(
      'The following inconsistencies were found and repaired:\n',
      `    ${result.leaksFixed} leaked clusters`,
      `    ${result.corruptionsFixed} corruptions\n`,
    )
  }
  if (result.corruptions === 0 && result.leaks === 0 && result.checkErrors === 0) {
    lines.push('No errors were found on the image.')
  } else {
    if (result.corruptions > 0) {
      lines.push(
        `\n${result.corruptions} errors were found on the image.`,
        'Data may be corrupted, or further writes to the image may corrupt it.',
      )
    }
    if (result.leaks > 0) {
      lines.push(
        `\n${result.leaks} leaked clusters were found on the image.`,
        'This means waste of disk space, but no harm to data.',
      )
    }
    if (result.checkErrors > 0) {
      lines.push(`\n${result.checkErrors} internal errors have occurred during the check.`)
    }
  }
  const { totalClusters: total, allocatedClusters: allocated } = result
  if (total > 0 && allocated > 0) {
    const percent = (part: number, whole: number): string => ((part * 100) / whole).toFixed(2)
    lines.push(
      `${allocated}/${total} = ${percent(allocated, total)}% allocated, ` +
        `${percent(result.fragmentedClusters, allocated)}% fragmented, ` +
        `${percent(result.compressedClusters, allocated)}% compressed clusters`,
    )
  }
  if (result.imageEndOffset > 0) lines.push(`Image end offset: ${result.imageEndOffset}`)
  return lines.join('\n')
}
