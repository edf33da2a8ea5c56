import { createImage, openImage } from '../block/index.ts'
import type { FormatNode } from '../block/index.ts'
import { isZero } from '../block/iovec.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'

const SPEC: OptionSpec = {
  flags: 'qpU',
  values: 'fO',
  long: { 'force-share': 'U' },
  longValues: [],
}

const CHUNK = 2 << 20

/** `qemu-img convert [-f FORMAT] [-O FORMAT] [-p] [-q] [-U] FILE OUTPUT`: a copy in another format. */
export async function convert(
  argv: readonly string[],
  print: (line: string) => void,
): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const [from, to, ...rest] = args.operands
  if (from === undefined || to === undefined || rest.length > 0) {
    throw new UsageError('Expecting one source and one output file name')
  }
  const locking = args.flags.has('U') ? 'off' : 'auto'
  const source = await openImage({
    filename: from,
    format: last(args, 'f'),
    readonly: true,
    locking,
  })
  try {
    const format = last(args, 'O') ?? 'raw'
    await createImage({ filename: to, format, sizeBytes: source.sizeBytes })
    const target = await openImage({ filename: to, format, discard: 'unmap' })
    try {
      await copy(source, target, args.flags.has('p') ? print : undefined)
    } finally {
      await target.close()
    }
  } finally {
    await source.close()
  }
  return 0
}

async function copy(
  source: FormatNode,
  target: FormatNode,
  progress: ((line: string) => void) | undefined,
): Promise<void> {
  const { sizeBytes } = source
  const buffer = new Uint8Array(CHUNK)
  let shown = -1
  for (let at = 0; at < sizeBytes;) {
    const { zero, length } = await source.map(at, sizeBytes - at)
    const bytes = buffer.subarray(0, Math.min(length, CHUNK - (at % CHUNK)))
    if (!zero) {
      await source.readv(at, [bytes])
      await writeData(target, at, bytes)
    }
    at += zero ? length : bytes.byteLength
    const percent = Math.floor((at * 100) / sizeBytes)
    if (progress !== undefined && percent !== shown) {
      shown = percent
      progress(`    (${percent.toFixed(2)}/100%)`)
    }
  }
}

const PIECE = 4096

/** Leaves out the blocks that are all zeros: the new image reads as zeros there already. */
async function writeData(target: FormatNode, offset: number, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.byteLength;) {
    let end = at
    while (end < bytes.byteLength && !isZero(bytes.subarray(end, end + PIECE))) end += PIECE
    end = Math.min(end, bytes.byteLength)
    if (end > at) await target.writev(offset + at, [bytes.subarray(at, end)])
    at = end === at ? at + PIECE : end
  }
}
