import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeEmptyImage } from '../../src/block/qcow2/create-qcow2.ts'
import type { Qcow2CreateOptions } from '../../src/block/qcow2/create-qcow2.ts'
import type { Qcow2Node } from '../../src/block/qcow2/image.ts'
import { openQcow2 } from '../../src/block/qcow2/open-qcow2.ts'
import { readHeader } from '../../src/block/qcow2/read-header.ts'
import type { BlockNode, FormatNode } from '../../src/block/index.ts'
import { MemoryFile } from './memory-file.ts'

const PIECE_BYTES = 5120

export async function emptyImage(
  sizeBytes: number,
  options: Partial<Qcow2CreateOptions> = {},
): Promise<MemoryFile> {
  const file = new MemoryFile()
  await writeEmptyImage(file, {
    sizeBytes,
    clusterSize: 512,
    version: 3,
    refcountBits: 16,
    lazyRefcounts: false,
    ...options,
  })
  return file
}

export async function openMemory(file: MemoryFile, backing?: FormatNode): Promise<Qcow2Node> {
  return await openQcow2(file, await readHeader(file), backing, { unmap: true })
}

/** The contents, which must be the same in pieces where those can be had at once. */
export async function readAll(node: BlockNode): Promise<Uint8Array> {
  const bytes = new Uint8Array(node.sizeBytes)
  await node.readv(0, [bytes])
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const expected = bytes.subarray(at, at + PIECE_BYTES)
    const found = readNow(node, at, expected.length)
    if (found !== undefined && Buffer.compare(found, expected) !== 0) {
      throw new Error(`another answer at once than later at ${at}`)
    }
  }
  return bytes
}

/** Bytes that can be had at once, read into two parts in the wrong order, or undefined. */
export function readNow(node: BlockNode, offset: number, length: number): Uint8Array | undefined {
  const buffers = [new Uint8Array(length + 512), new Uint8Array(512)]
  const rest = length - 512
  const parts = Uint32Array.of(1, 0, 512, 0, 7, rest)
  if (node.readNow?.(offset, { buffers, parts, count: 2, length }) !== true) return undefined
  return Buffer.concat([buffers[1]!, buffers[0]!.subarray(7, 7 + rest)])
}

/** Writes at once, from two parts in the wrong order; false where that cannot be. */
export function writeNow(node: BlockNode, offset: number, bytes: Uint8Array): boolean {
  const { length } = bytes
  const rest = length - 512
  const buffers = [new Uint8Array(length + 512), bytes.slice(0, 512)]
  buffers[0]!.set(bytes.subarray(512), 7)
  const parts = Uint32Array.of(1, 0, 512, 0, 7, rest)
  return node.writeNow?.(offset, { buffers, parts, count: 2, length }) === true
}

/** A folder that goes away at the end of the test. */
export function temporary(t: { teardown(work: () => void): void }): (name: string) => string {
  const folder = mkdtempSync(join(tmpdir(), 'block-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return (name) => join(folder, name)
}

/** The path without the commands of packages, of which one is a qemu-img too. */
const PATH = (process.env['PATH'] ?? '')
  .split(':')
  .filter((folder) => !folder.includes('node_modules'))
  .join(':')
export const environment: NodeJS.ProcessEnv = { ...process.env, PATH }

export function tool(command: string, ...args: string[]) {
  const options = { encoding: 'utf8', env: environment } as const
  const { status, stdout, stderr } = spawnSync(command, args, options)
  return { status, stdout, stderr }
}

/** Whether Debian's image tools are there to compare with (`apt-get install qemu-utils`). */
export const peer: boolean = tool('qemu-io', '--version').status === 0
