import { VIRTQ_DESC_F_INDIRECT, VIRTQ_DESC_F_NEXT, VIRTQUEUE_MAX_SIZE } from '../constants.ts'
import { VirtioError, hex } from '../errors.ts'

/** Addresses of the three parts of a split virtqueue (section 2.7). */
export interface QueueLayout {
  size: number
  descGpa: number
  availGpa: number
  usedGpa: number
}

export const DESC_BYTES = 16

export function availBytes(size: number): number {
  return 6 + 2 * size
}

export function usedBytes(size: number): number {
  return 6 + 8 * size
}

/** Throws unless a queue can be laid out like this; where RAM is, only the memory knows. */
export function checkLayout(index: number, layout: QueueLayout, maxSize: number): void {
  const { size, descGpa, availGpa, usedGpa } = layout
  if (size < 1 || size > maxSize || (size & (size - 1)) !== 0) {
    throw new VirtioError(
      'E_QUEUE_SIZE',
      `queue ${index} has size ${size}; it must be a power of two up to ${maxSize}`,
      { fields: { queue: index, size, maxSize } },
    )
  }
  const parts = [
    { name: 'descriptor table', gpa: descGpa, bytes: DESC_BYTES * size, alignment: 16 },
    { name: 'available ring', gpa: availGpa, bytes: availBytes(size), alignment: 2 },
    { name: 'used ring', gpa: usedGpa, bytes: usedBytes(size), alignment: 4 },
  ]
  for (const { name, gpa, bytes, alignment } of parts) {
    if (gpa > Number.MAX_SAFE_INTEGER - bytes) {
      throw new VirtioError('E_GUEST_ADDRESS', `the ${name} of queue ${index} is at ${hex(gpa)}`, {
        fields: { queue: index, gpa },
      })
    }
    if (gpa % alignment !== 0) {
      throw new VirtioError(
        'E_QUEUE_ALIGNMENT',
        `the ${name} of queue ${index} is at ${hex(gpa)}, which is no multiple of ${alignment}`,
        { fields: { queue: index, gpa, alignment } },
      )
    }
  }
  const usedEnd = usedGpa + usedBytes(size)
  for (const { name, gpa, bytes } of parts.slice(0, 2)) {
    if (gpa < usedEnd && usedGpa < gpa + bytes) {
      throw new VirtioError(
        'E_QUEUE_OVERLAP',
        `the used ring of queue ${index} at ${hex(usedGpa)} lies over its ${name} at ${hex(gpa)}`,
        { fields: { queue: index, usedGpa, gpa } },
      )
    }
  }
}

/** The number of descriptors in an indirect table; throws for one that section 2.7.5.3 forbids. */
export function indirectSize(flags: number, length: number, negotiated: boolean): number {
  if (!negotiated) throw indirectError('was not negotiated')
  if (flags & VIRTQ_DESC_F_NEXT) throw indirectError('has a next descriptor')
  if (length === 0 || length % DESC_BYTES !== 0 || length > DESC_BYTES * VIRTQUEUE_MAX_SIZE) {
    throw indirectError(`has ${length} bytes; it must be 1..${VIRTQUEUE_MAX_SIZE} times 16`)
  }
  return length / DESC_BYTES
}

export function nestedIndirect(flags: number): void {
  if (flags & VIRTQ_DESC_F_INDIRECT) throw indirectError('has an indirect descriptor inside')
}

function indirectError(what: string): VirtioError {
  return new VirtioError('E_INDIRECT', `an indirect table ${what}`)
}
