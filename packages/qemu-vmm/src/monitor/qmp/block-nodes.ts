import { statSync } from 'node:fs'

import { blockdev } from '../../cli/options/blockdev.ts'
import type { FileNode } from '../../cli/options/blockdev.ts'
import { defaultSettings } from '../../cli/settings.ts'
import type { Settings } from '../../cli/settings.ts'
import type { DriveConfig } from '../../machine/drive-config.ts'
import type { DriveInfo } from '../../machine/drive.ts'
import type { MonitoredMachine } from '../command.ts'

/** A node with its driver. */
export interface BlockNode {
  drive: DriveInfo
  driver: 'file' | 'raw' | 'qcow2' | undefined
}

type Machine = Pick<MonitoredMachine, 'drives' | 'addDrive' | 'removeDrive'>

/**
 * The block graph as QMP sees it: file nodes, and format nodes that lie on them. The machine has the ends of
 * it: a file node that a format lies on is no drive of its own.
 */
export class BlockNodes {
  readonly #machine: Machine
  readonly #files: Map<string, FileNode>
  /** The file node below a format node, by the latter's name. */
  readonly #below = new Map<string, string>()

  /** `files` are the file nodes of the command line. */
  constructor(machine: Machine, files: ReadonlyMap<string, FileNode>) {
    this.#machine = machine
    this.#files = new Map(files)
  }

  /** Adds a node. Rejects with `CliError` for what it cannot be, and as images do. */
  async add(args: Readonly<Record<string, unknown>>): Promise<void> {
    const before = (await this.#machine.drives()).map(configOf)
    const settings: Settings = {
      ...defaultSettings(),
      drives: [...before],
      fileNodes: new Map(this.#files),
    }
    const text = JSON.stringify(args)
    blockdev.apply(settings, text, text)
    const added = settings.drives.filter((drive) => !before.includes(drive))
    const covered = before.filter((drive) => !settings.drives.includes(drive))
    for (const { id } of covered) await this.#machine.removeDrive(id)
    try {
      for (const drive of added) await this.#machine.addDrive(drive)
    } catch (error) {
      for (const drive of covered) await this.#machine.addDrive(drive)
      throw error
    }
    this.#files.clear()
    for (const [name, node] of settings.fileNodes) this.#files.set(name, node)
    for (const { id } of added) for (const file of covered) this.#below.set(id, file.id)
  }

  /** All nodes: those of drives, then the named files below them. */
  async list(): Promise<BlockNode[]> {
    const drives = await this.#machine.drives()
    const nodes = drives.map((drive) => ({
      drive,
      // A file alone is a disk as it is.
      driver: this.#files.has(drive.id) ? ('file' as const) : drive.format,
    }))
    for (const [name, file] of this.#files) {
      const above = drives.find((drive) => drive.file === file.file)
      if (above === undefined || drives.some(({ id }) => id === name)) continue
      nodes.push({ drive: fileInfo(name, file, above), driver: 'file' })
    }
    return nodes
  }

  /** Removes one that nothing uses; a file node below it is free then. */
  async remove(name: string): Promise<void> {
    for (const [format, file] of this.#below) {
      // The machine says who has the drive above.
      if (file === name) throw new Error(`Node ${name} is in use by ${format}`)
    }
    await this.#machine.removeDrive(name)
    this.#files.delete(name)
    const below = this.#below.get(name)
    if (below === undefined) return
    this.#below.delete(name)
    const node = this.#files.get(below)
    if (node !== undefined) await this.#machine.addDrive({ id: below, format: 'raw', ...node })
  }
}

/** A file node as drives are told of: it has the size of the file. */
function fileInfo(id: string, { file, readOnly = false }: FileNode, above: DriveInfo): DriveInfo {
  const sizeBytes = statSync(file, { throwIfNoEntry: false })?.size ?? 0
  const { cache } = above
  const known = { id, file, readOnly, sizeBytes, isWaiting: false }
  return { ...known, stats: above.stats, ...(cache === undefined ? {} : { cache }) }
}

/** Without what the machine found out. */
function configOf(info: DriveInfo): DriveConfig {
  const {
    sizeBytes: _size,
    owner: _owner,
    backingDepth: _depth,
    isWaiting: _waiting,
    stats: _stats,
    ...config
  } = info
  return config
}
