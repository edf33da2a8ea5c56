import type { BlockFile } from '../file/protocol.ts'
import type { FormatNode } from '../node.ts'
import { INCOMPAT_CORRUPT, INCOMPAT_DIRTY, formatError } from './header.ts'
import type { Qcow2Header } from './header.ts'
import { checkImage } from './check.ts'
import { clearAutoclear } from './header-bits.ts'
import { Qcow2Node } from './image.ts'
import { loadParts } from './load-parts.ts'
import type { Qcow2Options } from './parts.ts'

/**
 * Opens an image whose backing file is open.
 * @throws BlockError E_BLOCK_FORMAT
 */
export async function openQcow2(
  file: BlockFile,
  header: Qcow2Header,
  backing: FormatNode | undefined,
  options: Qcow2Options,
): Promise<Qcow2Node> {
  if (!file.readOnly) {
    if ((header.incompatible & INCOMPAT_CORRUPT) !== 0) {
      throw formatError('qcow2: Image is corrupt; cannot be opened read/write', 'EACCES')
    }
    if ((header.incompatible & INCOMPAT_DIRTY) !== 0) {
      const left = await checkImage(file, header, { repair: 'all' })
      if (left.corruptions > 0 || left.checkErrors > 0)
        throw formatError('Could not repair dirty image')
    }
    await clearAutoclear(file, header)
  }
  return new Qcow2Node(await loadParts(file, header, backing, options), options)
}
