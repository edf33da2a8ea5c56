import { close, fdatasync, read, readv, write, writev, writevSync } from 'node:fs'
import { errnoOf, ioError } from '../errors.ts'
import { iovLength, iovSlice, iovZero } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'

/** Linux takes no more parts in one call. */
const MOST_PARTS = 1024

/** A file of the host: its descriptor, and the name that errors have. */
export interface HostFile {
  readonly fd: number
  readonly filename: string
  /** Opened with `O_DIRECT`. */
  readonly direct: boolean
  /** Bytes were written up to here. */
  written(end: number): void
}

/** Who waits for the host. Promises reject with `E_BLOCK_IO`. */
export interface FileIo {
  /** What lies behind the end of the file reads as zeros. */
  read(offset: number, iov: Iovec): Promise<void>
  write(offset: number, iov: Iovec): Promise<void>
  /** fdatasync(2) */
  flush(): Promise<void>
  /** Waits for requests that are under way, and closes the file. */
  close(): Promise<void>
}

/** `aio=threads`: those of libuv's pool. */
export class ThreadIo implements FileIo {
  readonly #file: HostFile

  constructor(file: HostFile) {
    this.#file = file
  }

  read(offset: number, iov: Iovec): Promise<void> {
    const { fd, filename } = this.#file
    return new Promise((resolve, reject) => {
      const step = (at: number, rest: Iovec, want: number): void => {
        const done = (error: Error | null, bytes: number): void => {
          if (error !== null) {
            if (errnoOf(error) === 'EINTR') step(at, rest, want)
            else reject(ioError('cannot read', filename, error))
          } else if (bytes === want) resolve()
          else if (bytes === 0) {
            // Behind the end of the file.
            iovZero(rest, 0, want)
            resolve()
          } else step(at + bytes, iovSlice(rest, bytes, want - bytes), want - bytes)
        }
        if (rest.length === 1) read(fd, rest[0]!, 0, want, at, done)
        else readv(fd, rest as Uint8Array[], at, done)
      }
      const length = iovLength(iov)
      if (length === 0) resolve()
      else step(offset, iov, length)
    })
  }

  write(offset: number, iov: Iovec): Promise<void> {
    const { fd, filename } = this.#file
    return new Promise((resolve, reject) => {
      const step = (at: number, rest: Iovec, want: number): void => {
        const done = (error: Error | null, bytes: number): void => {
          if (error !== null && errnoOf(error) === 'EINTR') step(at, rest, want)
          else if (error !== null) reject(ioError('cannot write', filename, error))
          else if (bytes === 0) reject(ioError('cannot write', filename, { code: 'ENOSPC' }))
          else {
            this.#file.written(at + bytes)
            if (bytes === want) resolve()
            else step(at + bytes, iovSlice(rest, bytes, want - bytes), want - bytes)
          }
        }
        if (rest.length === 1) write(fd, rest[0]!, 0, want, at, done)
        else writev(fd, rest as Uint8Array[], at, done)
      }
      const length = iovLength(iov)
      if (length === 0) resolve()
      else step(offset, iov, length)
    })
  }

  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      fdatasync(this.#file.fd, (error) => {
        if (error === null) resolve()
        else reject(ioError('cannot flush', this.#file.filename, error))
      })
    })
  }

  close(): Promise<void> {
    return closeFile(this.#file)
  }
}

/**
 * Writes on the calling thread: two threads that hand pieces to each other take longer than one that copies them to the
 * host.
 */
export class InlineIo extends ThreadIo {
  readonly #file: HostFile

  constructor(file: HostFile) {
    super(file)
    this.#file = file
  }

  override write(offset: number, iov: Iovec): Promise<void> {
    const { fd, filename } = this.#file
    const length = iovLength(iov)
    try {
      for (let done = 0; done < length;) {
        const rest = iovSlice(iov, done, length - done) as Uint8Array[]
        const bytes = writevSync(fd, rest.slice(0, MOST_PARTS), offset + done)
        if (bytes === 0) throw Object.assign(new Error(), { code: 'ENOSPC' })
        done += bytes
      }
    } catch (error) {
      return Promise.reject(ioError('cannot write', filename, error))
    }
    if (length > 0) this.#file.written(offset + length)
    return Promise.resolve()
  }
}

export function closeFile({ fd, filename }: HostFile): Promise<void> {
  return new Promise((resolve, reject) => {
    close(fd, (error) => {
      if (error === null || error === undefined) resolve()
      else reject(ioError('cannot close', filename, error))
    })
  })
}
