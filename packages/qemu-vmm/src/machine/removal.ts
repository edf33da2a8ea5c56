import { VmmError } from '../errors.ts'
import type { Emitter } from './emitter.ts'

/**
 * Asks for a device to be removed and waits until it is gone. Rejects with `E_TIMEOUT` when the guest
 * keeps it, `E_ENDED` when the machine ends before.
 *
 * @param id its id, or its path
 */
export async function removeAndWait(
  emitter: Emitter,
  ended: Promise<unknown>,
  id: string,
  timeoutMs: number,
  ask: () => Promise<void>,
): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  let stop = (): void => {}
  const gone = new Promise<void>((resolve, reject) => {
    stop = emitter.on('device-deleted', (device) => {
      if (device.id === id || device.path === id) resolve()
    })
    timer = setTimeout(() => {
      reject(
        new VmmError(
          'E_TIMEOUT',
          `the guest has kept device ${id} for ${timeoutMs} ms; it may be in use, or have no driver for hot-plug`,
          { fields: { device: id, timeoutMs } },
        ),
      )
    }, timeoutMs)
    void ended.then(() =>
      reject(
        new VmmError('E_ENDED', `the machine ended while device ${id} was being removed`, {
          fields: { device: id },
        }),
      ),
    )
  })
  gone.catch(() => {})
  try {
    await ask()
    await gone
  } finally {
    clearTimeout(timer)
    stop()
  }
}
