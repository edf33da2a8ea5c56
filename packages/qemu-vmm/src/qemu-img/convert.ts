import { createImage, openImage } from '../block/index.ts'
import type { FormatNode } from '../block/index.ts'
import { isZero } from '../block/iovec.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'

const SPEC: OptionSpec = {
  flags: 'cqpU',
  values: 'fO',
  long: { 'force-share': 'U' },
  longValues: [],
}

const CHUNK = 2 << 20

/** Clusters that are compressed side by side, each by a thread of its own. */
const SIDE_BY_SIDE = 8

/** `qemu-img convert [-f FORMAT] [-O FORMAT] [-c] [-p] [-q] [-U] FILE OUTPUT`: a copy in another format. */
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
    if (args.flags.has('c') && format === 'raw') {
      throw new UsageError('Compression not supported for this file format: use -O qcow2')
    }
    await createImage({ filename: to, format, sizeBytes: source.sizeBytes })
    const target = await openImage({ filename: to, format, discard: 'unmap' })
    try {
      const progress = progressOf(source.sizeBytes, args.flags.has('p') ? print : undefined)
      if (args.flags.has('c')) await copyCompressed(source, target, progress)
      else await copy(source, target, progress)
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
  progress: (at: number) => void,
): Promise<void> {
  const { sizeBytes } = source
  const buffer = new Uint8Array(CHUNK)
  for (let at = 0; at < sizeBytes;) {
    const { zero, length } = await source.map(at, sizeBytes - at)
    const bytes = buffer.subarray(0, Math.min(length, CHUNK - (at % CHUNK)))
    if (!zero) {
      await source.readv(at, [bytes])
      await writeData(target, at, bytes)
    }
    at += zero ? length : bytes.byteLength
    progress(at)
  }
}

/** Whole clusters that have anything but zeros. */
async function copyCompressed(
  source: FormatNode,
  target: FormatNode,
  progress: (at: number) => void,
): Promise<void> {
  const { sizeBytes } = source
  const cs = target.info().clusterSize!
  let running: Promise<void>[] = []
  const all = async (): Promise<void> => {
    const results = await Promise.allSettled(running)
    running = []
    const failed = results.find((result) => result.status === 'rejected')
    if (failed !== undefined) throw failed.reason
  }
  for (let at = 0; at < sizeBytes;) {
    const { zero, length } = await source.map(at, sizeBytes - at)
    if (zero && (length >= cs || at + length === sizeBytes)) {
      at = at + length === sizeBytes ? sizeBytes : at + length - (length % cs)
    } else {
      const cluster = new Uint8Array(cs)
      await source.readv(at, [cluster.subarray(0, Math.min(cs, sizeBytes - at))])
      if (!isZero(cluster)) running.push(target.writeCompressed!(at, cluster))
      at = Math.min(at + cs, sizeBytes)
    }
    if (running.length === SIDE_BY_SIDE || at === sizeBytes) await all()
    progress(at)
  }
}

function progressOf(
  sizeBytes: number,
  print: ((line: string) => void) | undefined,
): (at: number) => void {
  let shown = -1
  return (at) => {
    const percent = Math.floor((at * 100) / sizeBytes)
    if (print === undefined || percent === shown) return
    shown = percent
    print(`    (${percent.toFixed(2)}/100%)`)
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
