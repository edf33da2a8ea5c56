import type { FormatNode, MapEntry } from '../block/index.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { outputOf } from './info.ts'
import { REFUSED, onlyFile, open, using } from './io.ts'
import type { Io } from './io.ts'
import { sizeOf } from './size-arg.ts'

const SPEC: OptionSpec = {
  flags: 'U',
  values: 'fsl',
  long: {
    format: 'f',
    output: 'output',
    'force-share': 'U',
    'start-offset': 's',
    'max-length': 'l',
  },
  longValues: ['format', 'output', 'start-offset', 'max-length'],
  refused: REFUSED,
}

/** `qemu-img map [-f FORMAT] [--start-offset=OFFSET] [--max-length=SIZE] [--output=human|json] [-U] FILE` */
export async function map(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const filename = onlyFile(args)
  const output = outputOf(last(args, 'output'))
  const start = sizeOf(last(args, 's') ?? '0', 'start offset')
  const length = last(args, 'l')
  const most = length === undefined ? Infinity : sizeOf(length, 'max length')
  const locking = args.flags.has('U') ? 'off' : 'auto'
  const options = { filename, format: last(args, 'f'), readonly: true, locking } as const
  return await using([() => open(io, options)], async (node) => {
    const end = Math.min(node!.sizeBytes, start + most)
    const names = [...chain(node!)]
    if (output === 'human') {
      io.write(`${row('Offset', 'Length', 'Mapped to')}File\n`)
      for await (const entry of merged(node!, start, end)) io.write(human(entry, names))
      return 0
    }
    let separator = '['
    for await (const entry of merged(node!, start, end)) {
      io.write(`${separator}${json(entry)}`)
      separator = ',\n'
    }
    io.write(separator === '[' ? '[]\n' : ']\n')
    return 0
  })
}

function* chain(node: FormatNode): Generator<string> {
  for (let at: FormatNode | undefined = node; at !== undefined; at = at.backing) yield at.filename
}

/** The allocation of a range, with one entry for all that are one behind the other. */
async function* merged(node: FormatNode, start: number, end: number): AsyncGenerator<MapEntry> {
  let found: MapEntry | undefined
  for (let at = start; at < end;) {
    const next = await node.map(at, end - at)
    at += next.length
    if (found !== undefined && follows(found, next)) {
      found = { ...found, length: found.length + next.length }
    } else {
      if (found !== undefined) yield found
      found = next
    }
  }
  if (found !== undefined) yield found
}

function follows(first: MapEntry, next: MapEntry): boolean {
  return (
    first.depth === next.depth &&
    first.present === next.present &&
    first.zero === next.zero &&
    first.data === next.data &&
    (first.offset === undefined
      ? next.offset === undefined
      : next.offset === first.offset + first.length)
  )
}

const row = (...cells: string[]): string => cells.map((cell) => cell.padEnd(16)).join('')

function human({ start, length, zero, data, depth, offset }: MapEntry, names: string[]): string {
  if (!data || zero) return ''
  if (offset === undefined) {
    throw new UsageError('File contains external, encrypted or compressed clusters.')
  }
  const hex = (value: number): string => (value === 0 ? '0' : `0x${value.toString(16)}`)
  return `${row(hex(start), hex(length), hex(offset))}${names[depth]!}\n`
}

function json({ start, length, depth, present, zero, data, offset }: MapEntry): string {
  const entry = `{ "start": ${start}, "length": ${length}, "depth": ${depth}, "present": ${present}, `
  const place = offset === undefined ? '' : `, "offset": ${offset}`
  return `${entry}"zero": ${zero}, "data": ${data}${place}}`
}
