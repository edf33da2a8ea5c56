import { statSync } from 'node:fs'
import type { FormatNode } from '../block/index.ts'
import { backingPath } from '../block/open.ts'
import { UsageError, last, parseArguments } from './args.ts'
import type { OptionSpec } from './args.ts'
import { REFUSED, onlyFile, open } from './io.ts'
import type { Io } from './io.ts'
import { sizeText } from './size-text.ts'
import { snapshotLines } from './snapshot-list.ts'

const SPEC: OptionSpec = {
  flags: 'U',
  values: 'f',
  long: { format: 'f', output: 'output', 'backing-chain': 'chain', 'force-share': 'U' },
  longValues: ['format', 'output'],
  refused: REFUSED,
}

/** `qemu-img info [-f FORMAT] [--output=human|json] [--backing-chain] [-U] FILE` */
export async function info(argv: readonly string[], io: Io): Promise<number> {
  const args = parseArguments(argv, SPEC)
  const print = (line: string): void => io.write(`${line}\n`)
  const filename = onlyFile(args)
  const output = outputOf(last(args, 'output'))
  const found: Facts[] = []
  let next: string | undefined = filename
  let format = last(args, 'f')
  const seen = new Set<string>()
  while (next !== undefined && !seen.has(next)) {
    seen.add(next)
    const locking = args.flags.has('U') ? 'off' : 'auto'
    const node = await open(io, {
      filename: next,
      format,
      readonly: true,
      noBacking: true,
      locking,
    })
    try {
      found.push(facts(node))
      const { backingFile, backingFormat } = node.info()
      format = backingFormat
      next = backingFile === undefined ? undefined : backingPath(next, backingFile)
    } finally {
      await node.close()
    }
    if (!args.flags.has('chain')) break
  }
  if (output === 'json') print(json(found, args.flags.has('chain')))
  else print(found.map(human).join('\n\n'))
  return 0
}

/** @throws UsageError for anything but `human` and `json` */
export function outputOf(value: string | undefined): 'human' | 'json' {
  if (value === undefined || value === 'human') return 'human'
  if (value === 'json') return 'json'
  throw new UsageError(`--output must be used with human or json as argument, not '${value}'`)
}

interface Facts {
  readonly node: FormatNode
  readonly diskBytes: number
}

function facts(node: FormatNode): Facts {
  return { node, diskBytes: statSync(node.filename).blocks * 512 }
}

function json(found: readonly Facts[], chain: boolean): string {
  const entries = found.map(({ node, diskBytes }) => {
    const more = node.info()
    const { backingFile } = more
    return {
      ...(more.snapshots === undefined
        ? {}
        : {
            snapshots: more.snapshots.map((snapshot) => ({
              id: snapshot.id,
              name: snapshot.name,
              'vm-state-size': snapshot.vmStateBytes,
              'date-sec': snapshot.date.sec,
              'date-nsec': snapshot.date.nsec,
              'vm-clock-sec': Number(snapshot.vmClockNsec / 1_000_000_000n),
              'vm-clock-nsec': Number(snapshot.vmClockNsec % 1_000_000_000n),
              ...(snapshot.icount === undefined ? {} : { icount: Number(snapshot.icount) }),
            })),
          }),
      ...(more.backingFormat === undefined
        ? {}
        : { 'backing-filename-format': more.backingFormat }),
      'virtual-size': node.sizeBytes,
      filename: node.filename,
      ...(more.clusterSize === undefined ? {} : { 'cluster-size': more.clusterSize }),
      format: node.format,
      'actual-size': diskBytes,
      ...(more.specific === undefined
        ? {}
        : { 'format-specific': { type: node.format, data: more.specific } }),
      ...(backingFile === undefined
        ? {}
        : {
            'full-backing-filename': backingPath(node.filename, backingFile),
            'backing-filename': backingFile,
          }),
      'dirty-flag': more.dirty ?? false,
    }
  })
  return JSON.stringify(chain ? entries : entries[0], undefined, 4)
}

function human({ node, diskBytes }: Facts): string {
  const more = node.info()
  const lines = [
    `image: ${node.filename}`,
    `file format: ${node.format}`,
    `virtual size: ${sizeText(node.sizeBytes)} (${node.sizeBytes} bytes)`,
    `disk size: ${sizeText(diskBytes)}`,
  ]
  if (more.clusterSize !== undefined) lines.push(`cluster_size: ${more.clusterSize}`)
  if (more.dirty === true) lines.push('cleanly shut down: no')
  if (more.backingFile !== undefined) {
    const path = backingPath(node.filename, more.backingFile)
    const actual = path === more.backingFile ? '' : ` (actual path: ${path})`
    lines.push(`backing file: ${more.backingFile}${actual}`)
    if (more.backingFormat !== undefined) lines.push(`backing file format: ${more.backingFormat}`)
  }
  if (more.snapshots !== undefined) lines.push(...snapshotLines(more.snapshots))
  if (more.specific !== undefined) {
    lines.push('Format specific information:')
    for (const [key, value] of Object.entries(more.specific)) {
      lines.push(`    ${key.replaceAll('-', ' ')}: ${String(value)}`)
    }
  }
  return lines.join('\n')
}
