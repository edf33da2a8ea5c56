import { ErrorCode, VirtError } from '../rpc/index.ts'

/** Who waits longer for another operation on the same domain is told so. */
const JOB_MS = 30_000

/** Operations on one domain: one at a time. */
export class Jobs {
  #job: Promise<unknown> = Promise.resolve()

  /** Rejects with `VirtError` if the one before takes too long. */
  async run<T>(work: () => Promise<T> | T): Promise<T> {
    const before = this.#job
    let release: (() => void) | undefined
    this.#job = new Promise<void>((resolve) => {
      release = resolve
    })
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        const text = 'Timed out during operation: cannot acquire state change lock'
        reject(new VirtError(ErrorCode.OPERATION_TIMEOUT, text))
      }, JOB_MS)
    })
    try {
      await Promise.race([before, late])
    } catch (error) {
      // Those behind this one still wait for the one before.
      void before.then(() => release?.())
      throw error
    } finally {
      clearTimeout(timer)
    }
    try {
      return await work()
    } finally {
      release?.()
    }
  }
}
