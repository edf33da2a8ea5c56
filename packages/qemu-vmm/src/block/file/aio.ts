import { ringRefusal } from '../../native/ring.ts'
import { BlockError, errnoOf, strerror } from '../errors.ts'
import { ThreadIo } from './file-io.ts'
import type { FileIo, HostFile } from './file-io.ts'
import { RingIo } from './ring-io.ts'

/** Who waits for the host; with QEMU's meanings of `aio=`. */
export type Aio = 'threads' | 'native' | 'io_uring'

/**
 * What makes the requests of a file; without `aio` the ring where this host allows it, else threads.
 * @throws BlockError E_BLOCK_OPTION where this host, or this file, cannot have it
 */
export function openIo(
  file: HostFile,
  aio?: Aio,
  open: (file: HostFile) => FileIo = (ours) => new RingIo(ours),
): FileIo {
  if (aio === 'threads') return new ThreadIo(file)
  if (aio === 'native' && !file.direct) {
    throw optionError(
      aio,
      'EINVAL',
      'aio=native was specified, but it requires cache.direct=on, which was not specified.',
    )
  }
  try {
    return open(file)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error)) throw error
    if (aio === undefined) return new ThreadIo(file)
    const errno = errnoOf(error)
    const what = aio === 'native' ? 'aio=native, which needs io_uring here' : 'io_uring'
    const why = ringRefusal()
    const remedy = `${why === undefined ? '' : `: ${why}`}; use aio=threads`
    throw optionError(
      aio,
      errno,
      `Unable to use ${what}: failed to init linux io_uring ring: ${strerror(errno)}${remedy}`,
    )
  }
}

function optionError(aio: Aio, errno: string, message: string): BlockError {
  return new BlockError('E_BLOCK_OPTION', message, { errno, fields: { aio } })
}
