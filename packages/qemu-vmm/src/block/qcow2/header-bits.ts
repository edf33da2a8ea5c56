import type { BlockFile } from '../file/protocol.ts'
import { viewOf } from './bytes.ts'
import { INCOMPAT_CORRUPT, INCOMPAT_DIRTY } from './header.ts'
import type { Qcow2Header } from './header.ts'

const INCOMPATIBLE_AT = 76
const AUTOCLEAR_AT = 88

async function setBits(file: BlockFile, header: Qcow2Header, bits: number): Promise<void> {
  if (header.version < 3) return
  const word = new Uint8Array(4)
  viewOf(word).setUint32(0, bits)
  await file.writev(INCOMPATIBLE_AT, [word])
  await file.flush()
}

/** Marks an image as damaged, so that it is not opened for writing again, if the file lets us. */
export async function setCorrupt(file: BlockFile, header: Qcow2Header): Promise<void> {
  try {
    await setBits(file, header, (header.incompatible | INCOMPAT_CORRUPT) >>> 0)
  } catch {
    // The error that led here is the one to tell.
  }
}

/** After a repair: the refcounts are right, and nothing is corrupt. */
export async function clearBits(file: BlockFile, header: Qcow2Header): Promise<void> {
  await setBits(file, header, header.incompatible & ~(INCOMPAT_CORRUPT | INCOMPAT_DIRTY))
}

/** Before the first change: features that we do not keep up to date are off from here on. */
export async function clearAutoclear(file: BlockFile, header: Qcow2Header): Promise<void> {
  if (!header.autoclearSet) return
  await file.writev(AUTOCLEAR_AT, [new Uint8Array(8)])
  await file.flush()
}
