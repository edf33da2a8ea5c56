// What drivers do wrong. The errors are made here, so that the code that finds them stays small enough to be inlined.
import { VirtioError, hex } from '../errors.ts'

export function availIndexFault(
  queue: number,
  size: number,
  idx: number,
  more: number,
): VirtioError {
  return new VirtioError(
    'E_AVAIL_INDEX',
    `queue ${queue} of size ${size} has ${more} new chains: avail.idx is ${idx}`,
    { fields: { queue, size, availIdx: idx } },
  )
}

export function inFlightFault(queue: number, size: number): VirtioError {
  return new VirtioError(
    'E_AVAIL_INDEX',
    `queue ${queue} has more chains in flight than its ${size} descriptors`,
    { fields: { queue, size } },
  )
}

export function descriptorIndexFault(queue: number, size: number, index: number): VirtioError {
  return new VirtioError(
    'E_DESCRIPTOR_INDEX',
    `queue ${queue} has descriptor ${index} in a table of ${size}`,
    { fields: { queue, descriptor: index, size } },
  )
}

export function loopFault(queue: number, size: number, head: number): VirtioError {
  return new VirtioError(
    'E_CHAIN_LOOP',
    `queue ${queue} has a chain at ${head} with more than ${size} descriptors`,
    { fields: { queue, head, size } },
  )
}

export function orderFault(head: number): VirtioError {
  return new VirtioError(
    'E_DESCRIPTOR_ORDER',
    `chain ${head} has a device-readable descriptor after a device-writable one`,
    { fields: { head } },
  )
}

export function addressFault(head: number, gpa: number, length: number): VirtioError {
  return new VirtioError(
    'E_GUEST_ADDRESS',
    `chain ${head} has ${length} bytes at ${hex(gpa)}, beyond every address`,
    { fields: { head, gpa, length } },
  )
}

export function lengthFault(head: number): VirtioError {
  return new VirtioError('E_CHAIN_LENGTH', `chain ${head} has more than 2^32 - 1 bytes`, {
    fields: { head },
  })
}
