import { BlockError, CACHE_NAMES, cacheMode, openImage } from '../block/index.ts'
import type { FormatNode, OpenImageOptions } from '../block/index.ts'
import { UsageError, last } from './args.ts'
import type { Arguments } from './args.ts'

/** What a command needs of the world around it. */
export interface Io {
  /** Writes to standard output, as it is. */
  write(text: string): void
  /** Writes a line to standard error, behind the name of the program. */
  complain(line: string): void
  /** Writes lines to standard error as they are. */
  warn(text: string): void
  /** The date, for what images say about their age. */
  now(): { readonly sec: number; readonly nsec: number }
}

/** A subcommand: resolves to its exit code. */
export type Command = (argv: readonly string[], io: Io) => Promise<number>

/** Options that QEMU has and images here have no use for, with the reason. */
export const REFUSED = {
  object: 'images with secrets are not supported',
  'image-opts': 'give the name of the file, and its format with -f',
} as const

/**
 * Opens an image for a command.
 * @throws BlockError whose message names the file, as QEMU's does
 */
export async function open(io: Io, options: OpenImageOptions): Promise<FormatNode> {
  try {
    const warn = (text: string): void => io.warn(text)
    return await openImage({ ...options, warn })
  } catch (error) {
    if (error instanceof BlockError && error.message.startsWith('Failed to load')) throw error
    throw about(`Could not open '${options.filename}'`, error)
  }
}

/** The error with what it prevented in front. */
export function about(what: string, error: unknown): unknown {
  if (!(error instanceof BlockError)) return error
  const { errno, fields, message } = error
  const code = error.code as 'E_BLOCK_IO'
  return new BlockError(code, `${what}: ${message}`, { errno, fields, cause: error })
}

/** Uses images and closes them, whatever happens, the last one first. */
export async function using<T>(
  nodes: readonly (() => Promise<FormatNode>)[],
  work: (...opened: FormatNode[]) => Promise<T>,
): Promise<T> {
  const opened: FormatNode[] = []
  try {
    for (const node of nodes) opened.push(await node())
    return await work(...opened)
  } finally {
    for (const node of opened.toReversed()) await node.close()
  }
}

/** The value of a cache option; undefined when it is not given. */
export function cacheOf(args: Arguments, letter: 't' | 'T'): string | undefined {
  const value = last(args, letter)
  if (value === undefined) return undefined
  try {
    cacheMode(value)
  } catch (error) {
    const source = letter === 'T' ? 'source ' : ''
    if (!(error instanceof BlockError)) throw error
    throw new UsageError(`Invalid ${source}cache option: ${value} (${CACHE_NAMES.join(', ')})`)
  }
  return value
}

/** The only operand. */
export function onlyFile(args: Arguments): string {
  const [filename, ...rest] = args.operands
  if (filename === undefined || rest.length > 0) {
    throw new UsageError('Expecting one image file name')
  }
  return filename
}

/** What `-p` shows: a line that is written over. */
export class Progress {
  readonly #io: Io
  readonly #shown: boolean
  #percent = -1

  constructor(io: Io, args: Arguments) {
    this.#io = io
    this.#shown = args.flags.has('p') && !args.flags.has('q')
    this.#put(0)
  }

  /** @param total may be 0 */
  report(done: number, total: number): void {
    const percent = total === 0 ? 100 : (done * 100) / total
    if (percent - this.#percent >= 1) this.#put(percent)
  }

  end(): void {
    if (!this.#shown) return
    this.#put(100)
    this.#io.write('\n')
  }

  #put(percent: number): void {
    if (!this.#shown) return
    this.#percent = percent
    this.#io.write(`    (${percent.toFixed(2)}/100%)\r`)
  }
}
