import { mkdtempSync, rmSync, unlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Aio } from './file/aio.ts'
import { cacheMode } from './file/cache-mode.ts'
import { PosixFile } from './file/posix-file.ts'
import type { FormatNode } from './node.ts'
import { writeEmptyImage } from './qcow2/create-qcow2.ts'
import { openQcow2 } from './qcow2/open-qcow2.ts'
import { readHeader } from './qcow2/read-header.ts'

/**
 * A temporary image on top of another one: it takes all writes and vanishes with the process, or
 * when it is closed. Nothing of it needs to survive, so flushes stay in the host's page cache.
 */
export async function createOverlay(backing: FormatNode, aio?: Aio): Promise<FormatNode> {
  const folder = mkdtempSync(join(process.env['TMPDIR'] ?? tmpdir(), 'qemu-vmm-'))
  const path = join(folder, 'overlay.qcow2')
  try {
    const file = new PosixFile(path, {
      readOnly: false,
      cache: cacheMode('unsafe'),
      lock: { used: 0, unshared: 0 },
      locking: 'off',
      create: true,
      // It has the page cache also where the image below has not, as `native` wants it.
      aio: aio === 'native' ? 'io_uring' : aio,
    })
    try {
      unlinkSync(path)
      await writeEmptyImage(file, {
        sizeBytes: backing.sizeBytes,
        clusterSize: 1 << 16,
        version: 3,
        refcountBits: 16,
        lazyRefcounts: false,
      })
      return await openQcow2(file, await readHeader(file), backing, { unmap: true })
    } catch (error) {
      await file.close()
      throw error
    }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
