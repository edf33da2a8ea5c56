import { BlockError } from '../block/index.ts'
import type { FormatNode } from '../block/index.ts'
import { backingPath } from '../block/open.ts'
import { last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { Progress, REFUSED, cacheOf, onlyFile, open, using } from './io.ts'
import type { Io } from './io.ts'

const SPEC: OptionSpec = {
  flags: 'dpq',
  values: 'fbt',
  long: {},
  longValues: [],
  refused: { ...REFUSED, r: 'there is no limit of the rate' },
}

const CHUNK = 2 << 20

/**
 * `qemu-img commit [-f FORMAT] [-t CACHE] [-b BASE] [-d] [-p] [-q] FILE`: what the image has goes
 * into the backing file, or into one further below, which `-b` names.
 */
export async function commit(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const filename = onlyFile(args)
  const base = last(args, 'b')
  const common = { filename, format: last(args, 'f'), cache: cacheOf(args, 't') }
  const depth = await depthOf(io, common, base)
  const options = { ...common, discard: 'unmap', writableDepth: depth } as const
  return await using([() => open(io, options)], async (node) => {
    const progress = new Progress(io, args)
    const target = below(node!, depth)
    if (target.sizeBytes < node!.sizeBytes) await target.resize(node!.sizeBytes)
    await merge(node!, target, depth, progress)
    await target.flush()
    // What lies between is of no use any more when the base was named, and stays as it is.
    if (base === undefined && !args.flags.has('d')) await node!.empty?.()
    progress.end()
    if (!args.flags.has('q')) io.write('Image committed.\n')
    return 0
  })
}

function below(node: FormatNode, depth: number): FormatNode {
  let at = node
  for (let i = 0; i < depth; i++) at = at.backing!
  return at
}

/** How far below the image its base is, found before anything is opened for writing. */
async function depthOf(
  io: Io,
  top: { filename: string; format: string | undefined },
  base: string | undefined,
): Promise<number> {
  return await using([() => open(io, { ...top, readonly: true })], async (node) => {
    if (base !== undefined) {
      let depth = 0
      for (let at = node!.backing; at !== undefined; at = at.backing) {
        depth++
        if (at.filename === base || at.filename === backingPath(top.filename, base)) return depth
      }
      throw refusal(`Did not find '${base}' in the backing chain of '${top.filename}'`)
    }
    if (node!.backing === undefined) throw refusal('Image does not have a backing file')
    return 1
  })
}

async function merge(
  top: FormatNode,
  base: FormatNode,
  depth: number,
  progress: Progress,
): Promise<void> {
  const { sizeBytes } = top
  const buffer = new Uint8Array(CHUNK)
  for (let at = 0; at < sizeBytes;) {
    const entry = await top.map(at, sizeBytes - at)
    let { length } = entry
    // An image that ends early hides what is below; only behind the end of the base nothing is.
    const isBase = entry.depth >= depth || (entry.depth === depth - 1 && !entry.present)
    if (!isBase && entry.zero) await base.writeZeroes(at, length, true)
    else if (!isBase) {
      length = Math.min(length, CHUNK)
      const bytes = buffer.subarray(0, length)
      await top.readv(at, [bytes])
      await base.writev(at, [bytes])
    }
    at += length
    progress.report(at, sizeBytes)
  }
}

function refusal(message: string): BlockError {
  return new BlockError('E_BLOCK_OPTION', message, { errno: 'EINVAL' })
}
