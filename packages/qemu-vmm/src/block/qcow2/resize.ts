import { MAX_L1_BYTES, formatError } from './header.ts'
import { freeTable, settleTables, truncateTail, writeActive, writeTable } from './structure.ts'
import type { Structure } from './structure.ts'

/** Makes the disk larger: with a new L1 table where the present one is too small. */
export async function growImage(image: Structure, sizeBytes: number): Promise<void> {
  const { header, clusterBytes: cs, metadata } = image
  const needed = Math.ceil(sizeBytes / (cs * (cs / 8)))
  if (needed * 8 > MAX_L1_BYTES) {
    throw formatError('Image size is too big for this cluster size', 'EFBIG')
  }
  const { tables } = metadata
  if (needed <= tables.l1Entries) {
    return await writeActive(image, {
      sizeBytes,
      l1Entries: header.l1Entries,
      l1Offset: header.l1Offset,
    })
  }
  const l1 = new Uint8Array(needed * 8)
  l1.set(new Uint8Array(tables.l1.buffer, tables.l1.byteOffset, tables.l1.byteLength))
  const l1Offset = await writeTable(image, l1)
  await settleTables(image)
  await writeActive(image, { sizeBytes, l1Entries: needed, l1Offset })
  freeTable(image, header.l1Offset, header.l1Entries * 8)
  return await settleTables(image)
}

/** Makes the disk smaller, once nothing is stored behind its new end. */
export async function shrinkImage(image: Structure, sizeBytes: number): Promise<void> {
  const { header, clusterBytes: cs } = image
  await forgetTables(image, Math.ceil(sizeBytes / (cs * (cs / 8))))
  const { l1Entries, l1Offset } = header
  await writeActive(image, { sizeBytes, l1Entries, l1Offset })
  await truncateTail(image)
}

/** Frees the L2 tables from an L1 entry on: they name nothing any more. */
export async function forgetTables(image: Structure, from: number): Promise<void> {
  const { metadata } = image
  const { clusterBytes: cs, header } = image
  const end = Math.ceil(header.sizeBytes / (cs * (cs / 8)))
  for (let index = from; index < end; index++) {
    metadata.tables.forgetTable(index, metadata.freed)
  }
  await settleTables(image)
}
