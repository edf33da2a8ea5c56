import type { FormatNode } from '../block/index.ts'
import { isZero } from '../block/iovec.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { Progress, REFUSED, cacheOf, open, using } from './io.ts'
import type { Io } from './io.ts'

const SPEC: OptionSpec = {
  flags: 'pqsU',
  values: 'fFT',
  long: { 'force-share': 'U' },
  longValues: [],
  refused: REFUSED,
}

const CHUNK = 1 << 20

/**
 * `qemu-img compare [-f FORMAT] [-F FORMAT] [-s] [-q] [-U] FILE1 FILE2`
 * @returns 0 for the same contents, 1 for different ones
 */
export async function compare(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const [first, second, ...rest] = args.operands
  if (first === undefined || second === undefined || rest.length > 0) {
    throw new UsageError('Expecting two image file names')
  }
  const say = args.flags.has('q') ? () => {} : (line: string) => io.write(`${line}\n`)
  const locking = args.flags.has('U') ? 'off' : 'auto'
  const common = { readonly: true, locking, cache: cacheOf(args, 'T') } as const
  const nodes = [
    () => open(io, { filename: first, format: last(args, 'f'), ...common }),
    () => open(io, { filename: second, format: last(args, 'F'), ...common }),
  ]
  const progress = new Progress(io, args)
  return await using(nodes, async (a, b) => {
    const judgement: Judgement = { lines: [], code: 0 }
    await compareNodes(a!, b!, args.flags.has('s'), progress, judgement)
    progress.end()
    for (const line of judgement.lines) say(line)
    return judgement.code
  })
}

interface Judgement {
  readonly lines: string[]
  code: number
}

async function compareNodes(
  a: FormatNode,
  b: FormatNode,
  strict: boolean,
  progress: Progress,
  judgement: Judgement,
): Promise<void> {
  const differ = (line: string): void => {
    judgement.lines.push(line)
    judgement.code = 1
  }
  if (strict && a.sizeBytes !== b.sizeBytes) {
    return differ('Strict mode: Image size mismatch!')
  }
  const common = Math.min(a.sizeBytes, b.sizeBytes)
  const left = new Uint8Array(CHUNK)
  const right = new Uint8Array(CHUNK)
  for (let at = 0; at < common;) {
    progress.report(at, common)
    const one = await a.map(at, common - at)
    const two = await b.map(at, common - at)
    if (strict && one.present !== two.present) {
      return differ(`Strict mode: Offset ${at} block status mismatch!`)
    }
    const both = Math.min(one.length, two.length)
    if (one.zero && two.zero) {
      at += both
      continue
    }
    const length = Math.min(both, CHUNK)
    const x = left.subarray(0, length)
    const y = right.subarray(0, length)
    await Promise.all([a.readv(at, [x]), b.readv(at, [y])])
    if (Buffer.compare(x, y) !== 0) {
      // QEMU names the first sector that differs.
      let sector = 0
      while (
        Buffer.compare(x.subarray(sector, sector + 512), y.subarray(sector, sector + 512)) === 0
      ) {
        sector += 512
      }
      return differ(`Content mismatch at offset ${at + sector}!`)
    }
    at += length
  }
  if (a.sizeBytes !== b.sizeBytes) {
    judgement.lines.push('Warning: Image size mismatch!')
    const longer = a.sizeBytes > b.sizeBytes ? a : b
    for (let at = common; at < longer.sizeBytes;) {
      const { zero, length } = await longer.map(at, longer.sizeBytes - at)
      const bytes = left.subarray(0, Math.min(length, CHUNK))
      if (!zero) {
        await longer.readv(at, [bytes])
        if (!isZero(bytes)) {
          return differ(`Content mismatch at offset ${at}!`)
        }
      }
      at += zero ? length : bytes.byteLength
    }
  }
  judgement.lines.push('Images are identical.')
  return undefined
}
