import type { MemoryParts } from 'virtio'
import { hint } from '../cli/suggest.ts'
import { BlockError, errnoOf, ioError } from './errors.ts'
import { Filter } from './filter.ts'
import type { Iovec } from './iovec.ts'
import type { BlockNode } from './node.ts'

/** What happens when the host fails a request (`werror=`, `rerror=`). */
export type OnError = 'report' | 'ignore' | 'stop' | 'enospc'

export interface ErrorPolicyOptions {
  /** For writes, discards and flushes; `enospc` by default: stop when the disk is full, else report. */
  readonly werror?: OnError
  /** For reads; `report` by default. `enospc` means the same as `report`. */
  readonly rerror?: OnError
  /** A request waits for `retry()`: the machine must pause. Called for each request that waits. */
  readonly onStop: (error: BlockError, operation: 'read' | 'write') => void
}

const WRITE: readonly OnError[] = ['report', 'ignore', 'stop', 'enospc']
const READ: readonly OnError[] = ['report', 'ignore', 'stop']

/**
 * Judges a value of `werror=` or `rerror=`.
 * @throws BlockError E_BLOCK_OPTION
 */
export function onError(value: string, key: 'werror' | 'rerror'): OnError {
  const valid = key === 'werror' ? WRITE : READ
  const found = valid.find((name) => name === value)
  if (found !== undefined) return found
  const what = key === 'werror' ? 'write' : 'read'
  const message = `'${value}' invalid ${what} error action${hint(value, valid)}`
  throw new BlockError('E_BLOCK_OPTION', message, { errno: 'EINVAL', fields: { [key]: value } })
}

interface Waiting {
  readonly attempt: () => Promise<void>
  readonly operation: 'read' | 'write'
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

/** A node whose failed requests are told to the guest, ignored, or kept until the machine goes on. */
export class ErrorPolicy extends Filter<BlockNode> implements BlockNode {
  readonly #werror: OnError
  readonly #rerror: OnError
  readonly #onStop: ErrorPolicyOptions['onStop']
  #waiting: Waiting[] = []

  constructor(node: BlockNode, options: ErrorPolicyOptions) {
    super(node)
    this.#werror = options.werror ?? 'enospc'
    this.#rerror = options.rerror ?? 'report'
    this.#onStop = options.onStop
  }

  /** How many requests wait for `retry()`. */
  get waiting(): number {
    return this.#waiting.length
  }

  /** The machine goes on: submits the requests that wait again, in their order. */
  retry(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const { attempt, operation, resolve, reject } of waiting) {
      this.#submit(attempt, operation).then(resolve, reject)
    }
  }

  override readv(offset: number, iov: Iovec): Promise<void> {
    const request = this.node.readv(offset, iov)
    return request.catch((error: unknown) =>
      this.#failed(error, 'read', () => this.node.readv(offset, iov)),
    )
  }

  writeNow(offset: number, source: MemoryParts): boolean {
    return this.node.writeNow?.(offset, source) === true
  }

  writev(offset: number, iov: Iovec): Promise<void> {
    const request = this.node.writev(offset, iov)
    return request.catch((error: unknown) =>
      this.#failed(error, 'write', () => this.node.writev(offset, iov)),
    )
  }

  override flush(): Promise<void> {
    return this.#submit(() => this.node.flush(), 'write')
  }

  override discard(offset: number, length: number): Promise<void> {
    return this.#submit(() => this.node.discard(offset, length), 'write')
  }

  writeZeroes(offset: number, length: number, mayUnmap: boolean): Promise<void> {
    return this.#submit(() => this.node.writeZeroes(offset, length, mayUnmap), 'write')
  }

  /** Fails the requests that wait. */
  abandon(): void {
    const waiting = this.#waiting
    this.#waiting = []
    const error = new BlockError('E_BLOCK_IO', 'the disk was closed', { errno: 'ECANCELED' })
    for (const { reject } of waiting) reject(error)
  }

  /** Closes the node; requests that still wait fail. */
  close(): Promise<void> {
    this.abandon()
    return this.node.close()
  }

  #submit(attempt: () => Promise<void>, operation: 'read' | 'write'): Promise<void> {
    return attempt().catch((error: unknown) => this.#failed(error, operation, attempt))
  }

  #failed(
    error: unknown,
    operation: 'read' | 'write',
    attempt: () => Promise<void>,
  ): Promise<void> {
    const action = this.#action(error, operation)
    if (action === 'ignore') return Promise.resolve()
    if (action === 'report') return Promise.reject(error)
    return new Promise((resolve, reject) => {
      this.#waiting.push({ attempt, operation, resolve, reject })
      this.#onStop(ioError(`cannot ${operation}`, 'the disk', error), operation)
    })
  }

  #action(error: unknown, operation: 'read' | 'write'): 'report' | 'ignore' | 'stop' {
    const action = operation === 'read' ? this.#rerror : this.#werror
    if (action !== 'enospc') return action
    const full = errnoOf(error) === 'ENOSPC' || errnoOf(error) === 'EDQUOT'
    return operation === 'write' && full ? 'stop' : 'report'
  }
}
