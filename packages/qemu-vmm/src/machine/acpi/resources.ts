import { buffer, little } from './aml.ts'
import type { Aml } from './aml.ts'

/** A resource template: descriptors and the end tag (ACPI 6.5, 6.4). */
export function resourceTemplate(...descriptors: Aml[]): Aml {
  // A checksum of 0 says that there is none.
  return buffer([...descriptors.flat(), 0x79, 0x00])
}

/** Fixed ports, decoded with 16 address bits. */
export function io(base: number, length: number): Aml {
  return [0x47, 0x01, ...little(base, 2), ...little(base, 2), 0x01, length]
}

/** An edge-triggered, exclusive ISA interrupt. */
export function irqNoFlags(irq: number): Aml {
  return [0x22, ...little(1 << irq, 2)]
}

/** An ISA DMA channel that moves bytes, as old devices do. */
export function dma(channel: number): Aml {
  return [0x2a, 1 << channel, 0x00]
}

/** Global system interrupts: level-triggered, active high, shared. */
export function levelInterrupts(...gsis: number[]): Aml {
  const body = [0x09, gsis.length, ...gsis.flatMap((gsi) => little(gsi, 4))]
  return [0x89, ...little(body.length, 2), ...body]
}

const RANGE_MEMORY = 0
const RANGE_IO = 1
const RANGE_BUS = 2
/** Minimum and maximum are fixed; the consumer bit is clear: the bridge passes the range on. */
const PRODUCER_FIXED = 0x0c

/** A range of bus numbers that a bridge decodes. */
export function wordBusNumber(min: number, max: number): Aml {
  return addressSpace(0x88, 2, RANGE_BUS, 0, min, max)
}

/** A port range that a bridge passes on. */
export function wordIo(min: number, max: number): Aml {
  return addressSpace(0x88, 2, RANGE_IO, 0x03, min, max)
}

/** A memory range below 4 GiB that a bridge passes on. */
export function dwordMemory(min: number, max: number, cacheable: boolean): Aml {
  return addressSpace(0x87, 4, RANGE_MEMORY, cacheable ? 0x03 : 0x01, min, max)
}

/** A memory range above 4 GiB that a bridge passes on. */
export function qwordMemory(min: number, max: number): Aml {
  return addressSpace(0x8a, 8, RANGE_MEMORY, 0x03, min, max)
}

/** A fixed memory range below 4 GiB that a device takes for itself, writable. */
export function fixedMemory(base: number, length: number): Aml {
  return [0x86, ...little(9, 2), 0x01, ...little(base, 4), ...little(length, 4)]
}

function addressSpace(
  tag: number,
  width: 2 | 4 | 8,
  kind: number,
  specific: number,
  min: number,
  max: number,
): Aml {
  const words = [0, min, max, 0, max - min + 1].flatMap((value) => little(value, width))
  const body = [kind, PRODUCER_FIXED, specific, ...words]
  return [tag, ...little(body.length, 2), ...body]
}
