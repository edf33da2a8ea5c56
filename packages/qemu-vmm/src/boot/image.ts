import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

import { VmmError } from '../errors.ts'

const CHUNK_BYTES = 1 << 20

/** A sink for image bytes: guest memory, or a test's recorder. */
export interface ImageTarget {
  write(gpa: number, source: Uint8Array): void
}

/**
 * A file that is loaded into a guest. It stays open for the life of the machine and is read
 * straight into guest memory, so that a reset loads the same file again and no copy is kept.
 */
export class ImageFile {
  readonly path: string
  readonly size: number
  readonly #what: string
  #fd: number

  /** `what` names the role in messages, such as "kernel". Throws `E_FILE`. */
  constructor(path: string, what: string) {
    this.path = path
    this.#what = what
    try {
      this.#fd = openSync(path, 'r')
    } catch (cause) {
      throw new VmmError('E_FILE', `cannot open the ${what} ${path}: ${reason(cause)}`, {
        fields: { path },
        cause,
      })
    }
    const stat = fstatSync(this.#fd)
    this.size = stat.size
    const problem = stat.isDirectory()
      ? 'is a directory; give the path of a file'
      : !stat.isFile()
        ? 'is not a regular file'
        : stat.size === 0
          ? 'is empty'
          : undefined
    if (problem !== undefined) {
      this.close()
      throw new VmmError('E_FILE', `the ${what} ${path} ${problem}`, { fields: { path } })
    }
  }

  /** Reads at most `length` bytes from `at`; less only at the end of the file. */
  read(at: number, length: number): Uint8Array {
    const buffer = new Uint8Array(Math.max(0, Math.min(length, this.size - at)))
    this.#readInto(buffer, at)
    return buffer
  }

  /** Copies `length` bytes from `at` to guest memory. */
  copyTo(target: ImageTarget, gpa: number, at: number, length: number): void {
    const buffer = new Uint8Array(Math.min(CHUNK_BYTES, length))
    for (let done = 0; done < length; done += CHUNK_BYTES) {
      const part = buffer.subarray(0, Math.min(CHUNK_BYTES, length - done))
      this.#readInto(part, at + done)
      target.write(gpa + done, part)
    }
  }

  close(): void {
    if (this.#fd < 0) return
    closeSync(this.#fd)
    this.#fd = -1
  }

  #readInto(buffer: Uint8Array, at: number): void {
    for (let done = 0; done < buffer.length;) {
      const count = readSync(this.#fd, buffer, done, buffer.length - done, at + done)
      if (count === 0) {
        throw new VmmError(
          'E_IMAGE_TRUNCATED',
          `the ${this.#what} ${this.path} ends at byte ${at + done}; it had ${this.size} bytes ` +
            'when it was opened',
          { fields: { path: this.path, offset: at + done } },
        )
      }
      done += count
    }
  }
}

function reason(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'ENOENT') return 'there is no such file'
  if (code === 'EACCES') return 'permission denied'
  return error instanceof Error ? error.message : String(error)
}

/** `E_IMAGE_FORMAT` for a file of the wrong kind. */
export function badImage(image: ImageFile, what: string, problem: string): VmmError {
  return new VmmError('E_IMAGE_FORMAT', `the ${what} ${image.path} ${problem}`, {
    fields: { path: image.path },
  })
}

/** `E_IMAGE_TRUNCATED` with what is there and what the headers promise. */
export function truncatedImage(image: ImageFile, what: string, needed: number): VmmError {
  return new VmmError(
    'E_IMAGE_TRUNCATED',
    `the ${what} ${image.path} is truncated: it has ${image.size} bytes and its header says ` +
      `${needed}`,
    { fields: { path: image.path, size: image.size, needed } },
  )
}
