import { BlockError } from './errors.ts'
import { cacheMode } from './file/cache-mode.ts'
import type { Locking } from './file/file-lock.ts'
import { PosixFile } from './file/posix-file.ts'
import type { CheckOptions, CheckResult } from './node.ts'
import { lockFor } from './open.ts'
import { probeBytes } from './probe.ts'
import { checkImage } from './qcow2/check.ts'
import { readHeader } from './qcow2/read-header.ts'

/**
 * Checks an image that is not open, and repairs it when asked to. Images that are too damaged to be
 * opened for writing can be repaired too.
 * @throws BlockError E_BLOCK_FORMAT with errno ENOTSUP for a format that has nothing to check
 */
export async function checkFile(
  filename: string,
  format: string | undefined,
  options: CheckOptions & { readonly locking?: Locking; readonly cache?: string | undefined } = {},
): Promise<CheckResult> {
  const file = await PosixFile.open(filename, {
    readOnly: options.repair === undefined,
    cache: cacheMode(options.cache ?? 'writeback'),
    lock: lockFor(false, options.repair === undefined),
    locking: options.locking ?? 'auto',
  })
  try {
    const head = new Uint8Array(512)
    await file.readv(0, [head])
    if ((format ?? probeBytes(head)) !== 'qcow2') {
      throw new BlockError('E_BLOCK_FORMAT', 'This image format does not support checks', {
        errno: 'ENOTSUP',
        fields: { filename },
      })
    }
    return await checkImage(file, await readHeader(file), options)
  } finally {
    await file.close()
  }
}
