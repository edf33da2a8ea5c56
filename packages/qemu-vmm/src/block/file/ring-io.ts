import { fstatSync } from 'node:fs'
import { clearNonblock } from '../../native/ring.ts'
import type { BlockError } from '../errors.ts'
import { errnoName, ioError } from '../errors.ts'
import { iovLength, iovZero } from '../iovec.ts'
import type { Iovec } from '../iovec.ts'
import { closeFile } from './file-io.ts'
import type { FileIo, HostFile } from './file-io.ts'
import { releaseRing, sharedRing } from './ring.ts'
import type { Ring } from './ring.ts'

/** A copy of so many bytes takes longer than it takes to have another thread do it. */
const APART_BYTES = 128 << 10

/** `aio=io_uring` and `aio=native`: the ring of the isolate. */
export class RingIo implements FileIo {
  readonly #file: HostFile
  readonly #ring: Ring
  #outstanding = 0
  #onIdle: (() => void) | undefined

  /** @throws an error with the `code` of the host, where it allows no ring */
  constructor(file: HostFile) {
    this.#file = file
    clearNonblock(file.fd)
    this.#ring = sharedRing()
  }

  read(offset: number, iov: Iovec): Promise<void> {
    const length = iovLength(iov)
    if (length === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#outstanding++
      const done = (result: number): void => {
        this.#ended()
        if (result < 0) return reject(this.#error('cannot read', result))
        // Behind the end of the file.
        if (result < length) iovZero(iov, result, length - result)
        return resolve()
      }
      // Past the page cache it is the disk that copies.
      const apart = length >= APART_BYTES && !this.#file.direct
      this.#ring.read(this.#file.fd, offset, iov, done, apart)
    })
  }

  write(offset: number, iov: Iovec): Promise<void> {
    const length = iovLength(iov)
    if (length === 0) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.#outstanding++
      this.#ring.write(this.#file.fd, offset, iov, (result) => {
        this.#ended()
        if (result < 0) {
          // Some of it may have been written.
          this.#file.written(fstatSync(this.#file.fd).size)
          return reject(this.#error('cannot write', result))
        }
        this.#file.written(offset + length)
        return resolve()
      })
    })
  }

  flush(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#outstanding++
      this.#ring.flush(this.#file.fd, (result) => {
        this.#ended()
        if (result < 0) reject(this.#error('cannot flush', result))
        else resolve()
      })
    })
  }

  async close(): Promise<void> {
    // The number of a file that is closed may soon be that of another.
    if (this.#outstanding > 0) {
      await new Promise<void>((resolve) => {
        this.#onIdle = resolve
      })
    }
    releaseRing()
    await closeFile(this.#file)
  }

  #ended(): void {
    if (--this.#outstanding === 0) this.#onIdle?.()
  }

  #error(what: string, result: number): BlockError {
    const code = errnoName(-result)
    return ioError(what, this.#file.filename, Object.assign(new Error(), { code }))
  }
}
