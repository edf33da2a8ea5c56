import { openImage } from '../block/index.ts'
import type { FormatNode } from '../block/index.ts'
import { isZero } from '../block/iovec.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'

const SPEC: OptionSpec = {
  flags: 'qsU',
  values: 'fF',
  long: { 'force-share': 'U' },
  longValues: [],
}

const CHUNK = 1 << 20

/**
 * `qemu-img compare [-f FORMAT] [-F FORMAT] [-s] [-q] [-U] FILE1 FILE2`
 * @returns 0 for the same contents, 1 for different ones
 */
export async function compare(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const [first, second, ...rest] = args.operands
  if (first === undefined || second === undefined || rest.length > 0) {
    throw new UsageError('Expecting two image file names')
  }
  const say = args.flags.has('q') ? () => {} : print
  const locking = args.flags.has('U') ? 'off' : 'auto'
  const common = { readonly: true, locking } as const
  const a = await openImage({ filename: first, format: last(args, 'f'), ...common })
  try {
    const b = await openImage({ filename: second, format: last(args, 'F'), ...common })
    try {
      return await compareNodes(a, b, args.flags.has('s'), say)
    } finally {
      await b.close()
    }
  } finally {
    await a.close()
  }
}

async function compareNodes(
  a: FormatNode,
  b: FormatNode,
  strict: boolean,
  say: (line: string) => void,
): Promise<number> {
  if (strict && a.sizeBytes !== b.sizeBytes) {
    say('Strict mode: Image size mismatch!')
    return 1
  }
  const common = Math.min(a.sizeBytes, b.sizeBytes)
  const left = new Uint8Array(CHUNK)
  const right = new Uint8Array(CHUNK)
  for (let at = 0; at < common;) {
    const one = await a.map(at, common - at)
    const two = await b.map(at, common - at)
    if (strict && one.present !== two.present) {
      say(`Strict mode: Offset ${at} block status mismatch!`)
      return 1
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
      say(`Content mismatch at offset ${at + sector}!`)
      return 1
    }
    at += length
  }
  if (a.sizeBytes !== b.sizeBytes) {
    say('Warning: Image size mismatch!')
    const longer = a.sizeBytes > b.sizeBytes ? a : b
    for (let at = common; at < longer.sizeBytes;) {
      const { zero, length } = await longer.map(at, longer.sizeBytes - at)
      const bytes = left.subarray(0, Math.min(length, CHUNK))
      if (!zero) {
        await longer.readv(at, [bytes])
        if (!isZero(bytes)) {
          say(`Content mismatch at offset ${at}!`)
          return 1
        }
      }
      at += zero ? length : bytes.byteLength
    }
  }
  say('Images are identical.')
  return 0
}
