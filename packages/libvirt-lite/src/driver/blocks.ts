import { statSync } from 'node:fs'
import { basename, dirname } from 'node:path'
import { findVolume } from '../storage/volume.ts'
import type { Domain } from './domain.ts'
import { factsOf } from './model.ts'

interface BlockInfo {
  device?: string
  qdev?: string
  'io-status'?: string
  inserted?: { 'node-name'?: string; image: { 'virtual-size': number } }
}

interface BlockCounters {
  device?: string
  qdev?: string
  'node-name'?: string
  stats: Readonly<Record<string, number>>
}

/** A disk of a domain: where it is, how large, and what was asked of it. */
export interface Block {
  target: string
  alias: string
  path: string | undefined
  /** The number of its image while the domain runs. */
  index: number | undefined
  /** Of a running domain's last requests: `ok`, `failed` or `nospace`. */
  status: string | undefined
  /** Bytes that the guest sees; undefined where that cannot be found out. */
  capacity: number | undefined
  /** Bytes on the host's disk. */
  allocation: number | undefined
  /** Bytes of the file. */
  physical: number | undefined
  /** QEMU's counters, of a running domain. */
  counters: Readonly<Record<string, number>> | undefined
}

/** The disks of a domain as it runs, or as it is defined. */
export async function blocksOf(domain: Domain): Promise<Block[]> {
  const definition = (domain.live ?? domain.definition)!
  const infos = await ask<BlockInfo>(domain, 'query-block')
  const counters = await ask<BlockCounters>(domain, 'query-blockstats')
  const { disks = [] } = definition.devices ?? {}
  const aliases = disks.map(({ alias }) => alias?.name ?? '')
  const indices = disks.map(({ source }) => source?.index)
  return factsOf(definition).disks.map(({ target, path }, index) => {
    const alias = aliases[index]!
    const isOf = (it: BlockInfo | BlockCounters): boolean => {
      const node = 'node-name' in it ? it['node-name'] : (it as BlockInfo).inserted?.['node-name']
      const drive = `drive-${alias}`
      // By its device where that is told, as nodes of the command line have made-up names.
      if (it.device === drive || node === drive || it.qdev === alias) return true
      return it.qdev?.startsWith(`/machine/peripheral/${alias}/`) === true
    }
    const info = infos.find(isOf)
    const size = info?.inserted?.image['virtual-size']
    return {
      target,
      alias,
      path,
      index: indices[index],
      status: info?.['io-status'],
      counters: counters.find(isOf)?.stats,
      ...sizesOf(path, size),
    }
  })
}

function sizesOf(
  path: string | undefined,
  size: number | undefined,
): Pick<Block, 'capacity' | 'allocation' | 'physical'> {
  const file = path === undefined ? undefined : statSync(path, { throwIfNoEntry: false })
  if (path === undefined || file === undefined || !file.isFile()) {
    return { capacity: size, allocation: undefined, physical: undefined }
  }
  const capacity = size ?? findVolume(dirname(path), basename(path))?.capacity
  return { capacity, allocation: file.blocks * 512, physical: file.size }
}

/** What can be asked of an emulator; nothing of one that has just ended or has no such command. */
async function ask<T>(domain: Domain, command: string): Promise<T[]> {
  if (!domain.isActive) return []
  try {
    return (await domain.machine.execute(command)) as T[]
  } catch {
    return []
  }
}

/** The disk that a client names by its target or its image. */
export function findBlock<T extends { target: string; path: string | undefined }>(
  blocks: readonly T[],
  name: string,
): T | undefined {
  const named = blocks.find(({ target }) => target === name)
  return named ?? blocks.find(({ path }) => path !== undefined && path === name)
}
