import { closeSync, constants, fstat, fstatSync, ftruncate, openSync, statSync } from 'node:fs'
import { constants as os } from 'node:os'
import { setTimeout } from 'node:timers/promises'
import type { MemoryParts } from 'virtio'
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  cacheReader,
  hostio,
} from '../../native/hostio.ts'
import { BlockError, errnoName, errnoOf, ioError, openError, strerror } from '../errors.ts'
import { zeros } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'
import type { Aio } from './aio.ts'
import { openIo } from './aio.ts'
import type { CacheMode } from './cache-mode.ts'
import { DirectIo } from './direct-io.ts'
import { InlineIo } from './file-io.ts'
import type { FileIo } from './file-io.ts'
import { lockFile } from './file-lock.ts'
import type { LockRequest, Locking } from './file-lock.ts'
import type { BlockFile, FileCopy } from './protocol.ts'
import { WritePace } from './write-pace.ts'

export interface PosixFileOptions {
  readonly readOnly: boolean
  readonly cache: CacheMode
  readonly lock: LockRequest
  readonly locking: Locking
  /** Make the file, empty, unless it is a device. */
  readonly create?: boolean
  /** Write, and ask where data is, on the calling thread, for programs that have nothing else to do meanwhile. */
  readonly inline?: boolean
  /** Who waits for the host; by default the kernel where it may, else threads. */
  readonly aio?: Aio | undefined
}

/** Requests of writes that fill with zeros are at most this long. */
const ZERO_CHUNK = 4 << 20
const PAGE_BYTES = 4096
/** How long, in all, an image may stay locked by a process that was killed. */
const LOCK_WAITS_MS = [5, 10, 20, 40, 80]
const MISSING = new Set(['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EINVAL', 'ENODEV', 'ESPIPE', 'EPERM'])

/** A regular file or a block device of the host. */
export class PosixFile implements BlockFile {
  readonly filename: string
  readonly readOnly: boolean
  readonly zeroInit: boolean
  readonly logicalBlockBytes: number = 512
  readonly physicalBlockBytes: number = 512
  sizeBytes: number
  readonly #fd: number
  readonly #noFlush: boolean
  readonly #device: boolean
  readonly #inline: boolean
  readonly #direct: DirectIo | undefined
  readonly #io: FileIo
  #zeroRange = true
  /** The host can say what it has in memory. */
  #cached = true
  readonly #pace = new WritePace(() => performance.now())
  #open = true

  /**
   * Opens and locks a file as the constructor does, and waits a moment for another's lock: that of a process
   * that was killed with requests under way goes when the kernel has done with them, some time after the process itself.
   */
  static async open(filename: string, options: PosixFileOptions): Promise<PosixFile> {
    for (const waitMs of LOCK_WAITS_MS) {
      try {
        return new PosixFile(filename, options)
      } catch (error) {
        if (!(error instanceof BlockError && error.code === 'E_BLOCK_LOCKED')) throw error
      }
      await setTimeout(waitMs)
    }
    return new PosixFile(filename, options)
  }

  /**
   * Opens and locks a file.
   * @throws BlockError E_BLOCK_OPEN, E_BLOCK_LOCKED, E_BLOCK_OPTION where `aio` cannot be had
   */
  constructor(filename: string, options: PosixFileOptions) {
    this.filename = filename
    this.readOnly = options.readOnly
    this.#noFlush = options.cache.noFlush
    this.#inline = options.inline === true
    this.#fd = openFile(filename, options)
    try {
      const kind = fstatSync(this.#fd)
      this.#device = kind.isBlockDevice()
      this.zeroInit = !this.#device
      this.sizeBytes = kind.size
      if (this.#device) {
        const [size = 0, logical = 512, physical = 512] = hostio().blockDeviceGeometry(this.#fd)
        this.sizeBytes = size
        this.logicalBlockBytes = logical
        this.physicalBlockBytes = physical
      }
      lockFile(this.#fd, filename, options.lock, options.locking)
      const file = {
        fd: this.#fd,
        filename,
        direct: options.cache.direct,
        written: (end: number): void => this.#written(end),
      }
      this.#io = this.#inline && !this.readOnly ? new InlineIo(file) : openIo(file, options.aio)
      if (options.cache.direct) {
        this.#cached = false
        this.#direct = new DirectIo(this.#io, this.#device ? this.logicalBlockBytes : 4096)
      }
    } catch (error) {
      closeSync(this.#fd)
      throw error
    }
  }

  readNow(offset: number, { buffers, parts, count, length }: MemoryParts): boolean {
    if (!this.#cached) return false
    const read = cacheReader().read(this.#fd, offset, buffers, parts, count)
    if (read < 0 && read !== -os.errno.EAGAIN) this.#cached = false
    return read === length
  }

  copyNow(offset: number, { file, from, length, blockBytes, buffer }: FileCopy): number {
    if (!(file instanceof PosixFile) || !file.#cached || this.#direct !== undefined) return 0
    const { copyHere } = hostio()
    const copied = copyHere(file.#fd, from, this.#fd, offset, length, blockBytes, buffer)
    if (copied < 0) throw ioError('cannot write', this.filename, { code: errnoName(-copied) })
    if (copied > 0) this.#written(offset + copied)
    return copied
  }

  #written(end: number): void {
    if (end > this.sizeBytes && !this.#device) this.sizeBytes = end
  }

  writeNow(offset: number, source: MemoryParts): boolean {
    const { buffers, parts, count, length } = source
    if (this.readOnly || this.#direct !== undefined || offset + length > this.sizeBytes)
      return false
    // The rest of a page may have to come from the disk first.
    if (offset % PAGE_BYTES !== 0 || length % PAGE_BYTES !== 0) return false
    const write = (): number => hostio().writeHere(this.#fd, offset, buffers, parts, count)
    return this.#pace.run(write) === length
  }

  readv(offset: number, iov: Iovec): Promise<void> {
    if (this.#direct !== undefined) return this.#direct.readv(offset, iov)
    return this.#io.read(offset, iov)
  }

  writev(offset: number, iov: Iovec): Promise<void> {
    if (this.#direct !== undefined) return this.#direct.writev(offset, iov)
    return this.#io.write(offset, iov)
  }

  flush(): Promise<void> {
    if (this.#noFlush || this.readOnly) return Promise.resolve()
    return this.#io.flush()
  }

  async #fallocate(mode: number, offset: number, length: number): Promise<boolean> {
    const result = await hostio().fallocate(this.#fd, mode, offset, length)
    if (result === 0) return true
    const errno = errnoName(-result)
    if (MISSING.has(errno)) return false
    throw ioError('cannot allocate in', this.filename, Object.assign(new Error(), { code: errno }))
  }

  async punchHole(offset: number, length: number): Promise<boolean> {
    if (length === 0) return true
    return await this.#fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length)
  }

  async writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    if (length === 0) return
    if (mayUnmap && offset + length <= this.sizeBytes && (await this.punchHole(offset, length))) {
      return
    }
    if (this.#zeroRange) {
      if (await this.#fallocate(FALLOC_FL_ZERO_RANGE, offset, length)) {
        if (!this.#device) this.sizeBytes = Math.max(this.sizeBytes, offset + length)
        return
      }
      this.#zeroRange = false
    }
    for (let done = 0; done < length; done += ZERO_CHUNK) {
      await this.writev(offset + done, zeros(Math.min(ZERO_CHUNK, length - done)))
    }
  }

  allocate(offset: number, length: number): Promise<boolean> {
    return this.#fallocate(FALLOC_FL_KEEP_SIZE, offset, length)
  }

  truncate(sizeBytes: number): Promise<void> {
    if (this.#device) {
      if (sizeBytes <= this.sizeBytes) return Promise.resolve()
      return Promise.reject(ioError('cannot resize', this.filename, { code: 'ENOSPC' }))
    }
    return new Promise((resolve, reject) => {
      ftruncate(this.#fd, sizeBytes, (error) => {
        if (error !== null) return reject(ioError('cannot resize', this.filename, error))
        this.sizeBytes = sizeBytes
        resolve()
      })
    })
  }

  #seek(offset: number, hole: boolean): number | Promise<number> {
    if (this.#inline) return hostio().seekAllocationHere(this.#fd, offset, hole)
    return hostio().seekAllocation(this.#fd, offset, hole)
  }

  async allocation(offset: number, length: number): Promise<{ data: boolean; length: number }> {
    if (offset >= this.sizeBytes) return { data: false, length }
    const data = await this.#seek(offset, false)
    if (data < 0) {
      // ENXIO says that only a hole follows; other errors, that the host does not know.
      return { data: errnoName(-data) !== 'ENXIO', length }
    }
    if (data > offset) return { data: false, length: Math.min(length, data - offset) }
    const hole = await this.#seek(offset, true)
    return { data: true, length: hole > offset ? Math.min(length, hole - offset) : length }
  }

  storedBytes(): Promise<number> {
    return new Promise((resolve, reject) => {
      fstat(this.#fd, (error, stats) => {
        if (error === null) resolve(stats.blocks * 512)
        else reject(ioError('cannot stat', this.filename, error))
      })
    })
  }

  close(): Promise<void> {
    if (!this.#open) return Promise.resolve()
    this.#open = false
    return this.#io.close()
  }
}

function openFile(filename: string, options: PosixFileOptions): number {
  const { O_RDONLY, O_RDWR, O_DIRECT, O_CREAT, O_NONBLOCK } = constants
  let flags = options.readOnly ? O_RDONLY : O_RDWR
  if (options.cache.direct) flags |= O_DIRECT
  if (options.create === true) flags |= O_CREAT
  try {
    // Opening a FIFO would wait for its other end, and opening a device may do something.
    const kind = statSync(filename, { throwIfNoEntry: false })
    if (kind !== undefined && !kind.isFile() && !kind.isBlockDevice()) {
      const reason = `'file' driver requires '${filename}' to be a regular file`
      throw openError(filename, reason, kind.isDirectory() ? 'EISDIR' : 'EINVAL')
    }
    return openSync(filename, flags | O_NONBLOCK, 0o644)
  } catch (error) {
    if (error instanceof Error && 'errno' in error && 'syscall' in error) {
      const errno = errnoOf(error)
      const remedy =
        errno === 'EINVAL' && options.cache.direct
          ? ': the file system does not support O_DIRECT, use another cache mode than none'
          : ''
      throw openError(filename, strerror(errno) + remedy, errno)
    }
    throw error
  }
}
