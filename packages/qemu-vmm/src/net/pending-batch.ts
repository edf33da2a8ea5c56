import { DEFAULT_BATCH_BYTES, FrameBatch } from 'virtio'

import { VmmError } from '../errors.ts'

/** The batch that saved records were in. Throws `E_STATE`, which names the device, for what are no records. */
export function pendingBatch(owner: string, records: Uint8Array): FrameBatch {
  const batch = new FrameBatch()
  try {
    if (records.length <= DEFAULT_BATCH_BYTES) batch.bytes.set(records)
    batch.adopt(records.length)
  } catch (error) {
    throw new VmmError('E_STATE', `the saved state of ${owner} has frames that are none`, {
      fields: { device: owner },
      cause: error,
    })
  }
  return batch
}
