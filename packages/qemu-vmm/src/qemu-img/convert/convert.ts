import { createImage } from '../../block/index.ts'
import { statSync } from 'node:fs'
import type { FormatNode } from '../../block/index.ts'
import { UsageError } from '../args.ts'
import { Progress, about, open, using } from '../io.ts'
import type { Io } from '../io.ts'
import { copy } from './copy.ts'
import { parseConvert } from './options.ts'
import type { ConvertOptions } from './options.ts'
import { Source } from './source.ts'

/**
 * `qemu-img convert [-f FORMAT] [-O FORMAT] [-o OPTIONS] [-B BACKING -F FORMAT] … FILE... OUTPUT`:
 * a copy of one image, or of several behind each other, in another format.
 */
export async function convert(argv: readonly string[], io: Io): Promise<number> {
  const options = parseConvert(argv)
  const { sources, sourceFormat: format, locking, loadSnapshot, sourceCache: cache } = options
  const common = { format, readonly: true, locking, loadSnapshot, cache, inline: true } as const
  const opened = sources.map((filename) => () => open(io, { filename, ...common }))
  return await using(opened, async (...nodes) => {
    const source = new Source(nodes)
    if (!options.existing) await create(options, source.sizeBytes)
    const { target: filename, format: targetFormat, compress } = options
    // Clusters that are packed keep the threads busy as it is.
    const target = { filename, format: targetFormat, discard: 'unmap', inline: !compress } as const
    return await using([() => open(io, { ...target, cache: options.cache })], async (node) => {
      if (node!.sizeBytes < source.sizeBytes) {
        throw new UsageError('output file is smaller than input file')
      }
      const progress = new Progress(io, options.args)
      await copy(source, node!, {
        compress: options.compress,
        sparseBytes: options.sparseBytes,
        requests: options.requests,
        inOrder: options.inOrder,
        backingBytes: options.create.backingFile === undefined ? undefined : backingBytes(node!),
        targetIsZero: options.existing ? options.targetIsZero : readsZero(options.target),
        progress,
      })
      progress.end()
      return 0
    })
  })
}

async function create(options: ConvertOptions, sizeBytes: number): Promise<void> {
  try {
    await createImage({ ...options.create, sizeBytes })
  } catch (error) {
    throw about(`${options.target}: error while converting ${options.format}`, error)
  }
}

/** Where what is not copied comes from, it ends; behind there are zeros. */
const backingBytes = (node: FormatNode): number => node.backing?.sizeBytes ?? 0

/** A new image reads as zeros, unless a device holds what its last user left there. */
function readsZero(filename: string): boolean {
  return !statSync(filename).isBlockDevice()
}
