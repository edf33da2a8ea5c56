// What changes images: the command qemu-img does it.
import { execFile } from 'node:child_process'
import { existsSync, rmSync, truncateSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { VolumeDefinition } from './definition.ts'
import type { Pool } from './pool.ts'
import type { Volume } from './volume.ts'

/** A copy of a large image takes its time, but not for ever. */
const LIMIT_MS = 6 * 3_600_000

const failed = (text: string, cause?: unknown): VirtError =>
  new VirtError(ErrorCode.OPERATION_FAILED, `operation failed: ${text}`, { cause })

export class Images {
  readonly #command: string | undefined

  /** `command` is a qemu-img. */
  constructor(command: string | undefined) {
    this.#command = command
  }

  /** Makes a volume. Rejects with VirtError; what was begun is removed then. */
  async create(pool: Pool, definition: VolumeDefinition, metadata: boolean): Promise<void> {
    const { format, capacity, allocation, backing } = definition
    if (capacity === undefined && backing === undefined) {
      throw new VirtError(ErrorCode.XML_ERROR, 'XML error: missing capacity element')
    }
    const from = backing === undefined ? [] : ['-b', backing.path, '-F', backing.format]
    const whole = capacity !== undefined && allocation !== undefined && allocation >= capacity
    // QEMU's name for the same: the image has its place on the disk.
    const prealloc = whole ? 'falloc' : metadata && format === 'qcow2' ? 'metadata' : undefined
    const options =
      prealloc !== undefined && backing === undefined && capacity !== 0
        ? ['-o', `preallocation=${prealloc}`]
        : []
    const size = capacity === undefined ? [] : [String(capacity)]
    await this.#make(pool, definition.name, (path) => [
      'create',
      '-q',
      '-f',
      format,
      ...options,
      ...from,
      path,
      ...size,
    ])
    // Any number of bytes may be asked for; the command makes whole sectors.
    if (format === 'raw' && capacity !== undefined) {
      truncateSync(join(pool.path, definition.name), capacity)
    }
  }

  /** Makes a volume with the contents of another. */
  async clone(pool: Pool, definition: VolumeDefinition, source: Volume): Promise<void> {
    const { name, format, capacity } = definition
    await this.#make(pool, name, (path) => [
      'convert',
      '-f',
      source.format,
      '-O',
      format,
      source.path,
      path,
    ])
    if (capacity === undefined || capacity <= source.capacity) return
    try {
      await this.#run(['resize', '-q', '-f', format, join(pool.path, name), String(capacity)])
    } catch (error) {
      rmSync(join(pool.path, name), { force: true })
      throw error
    }
  }

  /** Changes the size that a guest sees. */
  async resize({ path, format }: Volume, capacity: number, shrink: boolean): Promise<void> {
    const how = shrink ? ['--shrink'] : []
    await this.#run(['resize', '-q', ...how, '-f', format, path, String(capacity)])
  }

  async #make(pool: Pool, name: string, args: (path: string) => string[]): Promise<void> {
    const path = join(pool.path, name)
    if (existsSync(path)) {
      const text = `storage volume name '${name}' already in use.`
      throw new VirtError(ErrorCode.STORAGE_VOL_EXIST, `operation failed: ${text}`)
    }
    try {
      await this.#run(args(path))
    } catch (error) {
      rmSync(path, { force: true })
      throw error
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
