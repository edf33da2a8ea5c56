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

export async function readAll(node: BlockNode): Promise<Uint8Array> {
  const bytes = new Uint8Array(node.sizeBytes)
  await node.readv(0, [bytes])
  return bytes
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
