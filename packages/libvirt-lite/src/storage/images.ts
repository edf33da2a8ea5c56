// What changes images: the command qemu-img does it.
import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { existsSync, renameSync, rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { VolumeDefinition } from './definition.ts'
import type { Pool } from './pool.ts'
import { setPermissions } from './permissions.ts'
import { UNFINISHED } from './volume.ts'
import type { Volume } from './volume.ts'

/** A copy of a large image takes its time, but not for ever. */
const LIMIT_MS = 6 * 3_600_000

const failed = (text: string, cause?: unknown): VirtError =>
  new VirtError(ErrorCode.OPERATION_FAILED, `operation failed: ${text}`, { cause })

/** Of a volume whose definition says nothing: what is in it is nobody else's business. */
const VOLUME_MODE = 0o600

export class Images {
  readonly #command: string | undefined
  /** Paths of volumes that are not there yet. */
  readonly #making = new Set<string>()

  /** `command` is a qemu-img. */
  constructor(command: string | undefined) {
    this.#command = command
  }

  /** Makes a volume. Rejects with VirtError; what was begun is removed then. */
  async create(pool: Pool, definition: VolumeDefinition, metadata: boolean): Promise<void> {
    const { format, capacity, backing } = definition
    // A raw image has all its place at once, unless the definition says otherwise.
    const { allocation = format === 'raw' ? capacity : undefined } = definition
    if (capacity === undefined && backing === undefined) {
      throw new VirtError(ErrorCode.XML_ERROR, 'XML error: missing capacity element')
    }
    const from = backing === undefined ? [] : ['-b', backing.path, '-F', backing.format]
    const whole = capacity !== undefined && allocation !== undefined && allocation >= capacity
    // QEMU's name for the same: the image has its place on the disk.
    const prealloc = whole ? 'falloc' : metadata && format === 'qcow2' ? 'metadata' : undefined
    const settings = { ...definition.options }
    if (prealloc !== undefined && backing === undefined && capacity !== 0) {
      settings['preallocation'] = prealloc
    }
    const options = optionArgs(settings)
    const size = capacity === undefined ? [] : [String(capacity)]
    await this.#make(pool, definition, async (path) => {
      await this.#run(['create', '-q', '-f', format, ...options, ...from, path, ...size])
      // Any number of bytes may be asked for; the command makes whole sectors.
      if (format === 'raw' && capacity !== undefined) truncateSync(path, capacity)
    })
  }

  /** Makes a volume with the contents of another. Rejects with VirtError; what was begun is removed then. */
  async clone(
    pool: Pool,
    definition: VolumeDefinition,
    { source, metadata }: { source: Volume; metadata: boolean },
  ): Promise<void> {
    const { format, capacity } = definition
    const prealloc = metadata && format === 'qcow2' ? { preallocation: 'metadata' } : {}
    const options = optionArgs({ ...definition.options, ...prealloc })
    await this.#make(pool, definition, async (path) => {
      const formats = ['-f', source.format, '-O', format]
      await this.#run(['convert', ...formats, ...options, source.path, path])
      if (capacity === undefined || capacity <= source.capacity) return
      await this.#run(['resize', '-q', '-f', format, path, String(capacity)])
    })
  }

  /** Changes the size that a guest sees; with `allocate` what is added has its place on the disk. */
  async resize(
    { path, format }: Volume,
    capacity: number,
    { shrink, allocate }: { shrink: boolean; allocate: boolean },
  ): Promise<void> {
    const how = [...(shrink ? ['--shrink'] : []), ...(allocate ? ['--preallocation=falloc'] : [])]
    await this.#run(['resize', '-q', ...how, '-f', format, path, String(capacity)])
  }

  /** Has `work` make a file, which gets its name when it is whole: half an image looks like one. */
  async #make(
    pool: Pool,
    { name, permissions }: VolumeDefinition,
    work: (path: string) => Promise<void>,
  ): Promise<void> {
    const path = join(pool.path, name)
    if (existsSync(path) || this.#making.has(path)) {
      const text = `storage volume '${name}' exists already`
      throw new VirtError(ErrorCode.STORAGE_VOL_EXIST, text)
    }
    this.#making.add(path)
    const unfinished = join(pool.path, `${UNFINISHED}${randomUUID()}`)
    try {
      await work(unfinished)
      setPermissions(unfinished, { mode: VOLUME_MODE, ...permissions })
      renameSync(unfinished, path)
    } finally {
      this.#making.delete(path)
      rmSync(unfinished, { force: true })
    }
  }

  async #run(args: readonly string[]): Promise<void> {
    const command = this.#command
    if (command === undefined) {
      throw failed("there is no 'qemu-img' beside this package or in the path")
    }
    try {
      await promisify(execFile)(command, args, { timeout: LIMIT_MS })
    } catch (error) {
      const { stderr } = error as { stderr?: string }
      throw failed(stderr?.trim() || (error as Error).message, error)
    }
  }
}

const optionArgs = (settings: Readonly<Record<string, string>>): string[] =>
  Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])
