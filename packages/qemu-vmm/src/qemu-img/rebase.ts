import { changeImage } from '../block/index.ts'
import type { FormatNode } from '../block/index.ts'
import { isZero } from '../block/iovec.ts'
import { backingPath } from '../block/open.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { Arguments, OptionSpec } from './args.ts'
import { knownFormat } from './create-keys.ts'
import { Progress, REFUSED, about, cacheOf, onlyFile, open, using } from './io.ts'
import type { Io } from './io.ts'

const SPEC: OptionSpec = {
  flags: 'pquU',
  values: 'fbFtT',
  long: { 'force-share': 'U' },
  longValues: [],
  refused: REFUSED,
}

const CHUNK = 2 << 20

/**
 * `qemu-img rebase [-f FORMAT] [-t CACHE] [-T CACHE] [-u] -b BACKING [-F FORMAT] [-p] [-q] FILE`:
 * another backing file. Without `-u` the disk holds the same as before, whatever that takes.
 */
export async function rebase(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const filename = onlyFile(args)
  const unsafe = args.flags.has('u')
  const name = last(args, 'b')
  if (name === undefined && !unsafe) {
    throw new UsageError('Must specify backing file (-b) or use unsafe mode (-u)')
  }
  if (args.flags.has('U') && !unsafe) {
    throw new UsageError('-U is for the unsafe mode only, in which nothing is copied: use -u')
  }
  const given = last(args, 'F')
  const format = given === undefined ? undefined : knownFormat(given)
  const to = name === undefined || name === '' ? undefined : { file: name, format }
  const options = {
    filename,
    format: last(args, 'f'),
    cache: cacheOf(args, 't'),
    noBacking: unsafe,
    locking: args.flags.has('U') ? 'off' : 'auto',
    discard: 'unmap',
  } as const
  return await using([() => open(io, options)], async (node) => {
    const progress = new Progress(io, args)
    if (!unsafe && node!.format === 'qcow2') await keep(node!, to, { io, args, progress })
    try {
      if (to !== undefined && format === undefined && node!.format === 'qcow2') {
        throw new UsageError(
          `Could not change the backing file to '${to.file}': backing format must be specified`,
        )
      }
      await changeImage(node!, { backing: to ?? null })
    } catch (error) {
      throw about(`Could not change the backing file to '${name ?? ''}'`, error)
    }
    progress.end()
    return 0
  })
}

interface Surroundings {
  readonly io: Io
  readonly args: Arguments
  readonly progress: Progress
}

/** Copies into the image what its new backing file has not, or has otherwise. */
async function keep(
  node: FormatNode,
  to: { file: string; format: string | undefined } | undefined,
  { io, args, progress }: Surroundings,
): Promise<void> {
  if (to === undefined) return await copyDifferent(node, undefined, progress)
  const opened = async (): Promise<FormatNode> => {
    const filename = backingPath(node.filename, to.file)
    const cache = cacheOf(args, 'T')
    try {
      return await open(io, { filename, format: to.format, readonly: true, cache })
    } catch (error) {
      const cause = error instanceof Error ? (error.cause ?? error) : error
      throw about(`Could not open new backing file '${to.file}'`, cause)
    }
  }
  return await using([opened], (backing) => copyDifferent(node, backing, progress))
}

async function copyDifferent(
  node: FormatNode,
  backing: FormatNode | undefined,
  progress: Progress,
): Promise<void> {
  const { sizeBytes } = node
  const step = node.info().clusterSize!
  const before = new Uint8Array(CHUNK)
  const after = new Uint8Array(CHUNK)
  for (let at = 0; at < sizeBytes;) {
    progress.report(at, sizeBytes)
    const entry = await node.map(at, sizeBytes - at)
    if (entry.depth === 0 && entry.present) {
      at += entry.length
      continue
    }
    // Nothing to compare where both have nothing.
    const other = await zerosOf(backing, at, entry.length)
    if (entry.zero && other > 0) {
      at += Math.min(entry.length, other)
      continue
    }
    const length = Math.min(entry.length, CHUNK - (at % CHUNK))
    await readPast(node.backing, at, before.subarray(0, length))
    await readPast(backing, at, after.subarray(0, length))
    for (let from = 0; from < length;) {
      const to = Math.min(length, from + step - ((at + from) % step))
      const bytes = before.subarray(from, to)
      if (Buffer.compare(bytes, after.subarray(from, to)) !== 0) {
        if (isZero(bytes)) await node.writeZeroes(at + from, to - from, true)
        else await node.writev(at + from, [bytes])
      }
      from = to
    }
    at += length
  }
  await node.flush()
}

/** How many bytes from an offset on are zeros, as far as the image's tables tell. */
async function zerosOf(node: FormatNode | undefined, at: number, length: number): Promise<number> {
  if (node === undefined || at >= node.sizeBytes) return length
  const entry = await node.map(at, Math.min(length, node.sizeBytes - at))
  return entry.zero ? entry.length : 0
}

/** Behind the end of a disk there are zeros. */
async function readPast(
  node: FormatNode | undefined,
  offset: number,
  bytes: Uint8Array,
): Promise<void> {
  const inside = Math.max(0, Math.min(bytes.byteLength, (node?.sizeBytes ?? 0) - offset))
  if (inside > 0) await node!.readv(offset, [bytes.subarray(0, inside)])
  bytes.fill(0, inside)
}
