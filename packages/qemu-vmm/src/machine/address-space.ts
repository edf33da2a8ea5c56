import type { AccessSizes, IoHandler } from '../device.ts'
import { VmmError } from '../errors.ts'

/** A range of an address space and the handler behind it. */
export interface Region {
  /** Appears in error messages and in the watchdog's log. */
  name: string
  base: number
  len: number
  /** The address that counts as offset 0; the base of the range by default. */
  origin?: number
  /** Of two overlapping ranges the higher one answers. Equal priorities must not overlap. */
  priority?: number
  /** Lets this range overlap another of the same priority, as guest-programmed BARs may. */
  mayOverlap?: boolean
  access?: AccessSizes
  /**
   * Writes may come a little later, in order and before any other access: the guest does not wait for them. For
   * ranges that are mapped when the machine is made and whose writes change nothing but what the device shows, or
   * answers later. A number: only writes of so many bytes.
   */
  posted?: true | number
  handler: IoHandler
}

/** A mapped range. */
export interface Mapping {
  unmap(): void
}

interface Slice {
  start: number
  end: number
  region: Region
  origin: number
  minSize: number
  maxSize: number
}

/**
 * One space of ports or memory-mapped registers: a sorted array of slices with a last-hit cache.
 *
 * An access belongs as a whole to the range that its first address hits, as on a PC, where a
 * 4-byte access to the configuration address port passes over the reset control register.
 */
export class AddressSpace {
  /** Told about accesses that no range answers. */
  onUnclaimed?: (operation: 'read' | 'write', address: number, size: number) => void
  readonly #name: string
  #regions: Region[] = []
  #slices: Slice[] = []
  #last: Slice | undefined

  constructor(name: string) {
    this.#name = name
  }

  /** Throws `E_RANGE_TAKEN` where another range of the same priority already answers. */
  map(region: Region): Mapping {
    const priority = region.priority ?? 0
    if (!region.mayOverlap) {
      const other = this.#regions.find(
        (r) =>
          (r.priority ?? 0) === priority &&
          r.base < region.base + region.len &&
          region.base < r.base + r.len,
      )
      if (other !== undefined) {
        throw new VmmError(
          'E_RANGE_TAKEN',
          `${region.name} wants the ${this.#name} range ${hexRange(region)}, which ${other.name} ` +
            `has (${hexRange(other)}); give one of them another base`,
          { fields: { device: region.name, owner: other.name, base: region.base } },
        )
      }
    }
    this.#regions.push(region)
    this.#rebuild()
    return {
      unmap: () => {
        const at = this.#regions.indexOf(region)
        if (at < 0) return
        this.#regions.splice(at, 1)
        this.#rebuild()
      },
    }
  }

  /** The ranges whose writes the guest need not wait for. */
  postedRanges(): { base: number; len: number; size?: number }[] {
    return this.#regions
      .filter(({ posted }) => posted !== undefined)
      .map(({ base, len, posted }) => ({
        base,
        len,
        ...(typeof posted === 'number' && { size: posted }),
      }))
  }

  /** The ranges, by address. */
  regions(): Pick<Region, 'name' | 'base' | 'len' | 'priority'>[] {
    return this.#regions
      .map(({ name, base, len, priority = 0 }) => ({ name, base, len, priority }))
      .toSorted((a, b) => a.base - b.base || b.len - a.len)
  }

  /** The name of the range that answers at `address`, for logs. */
  nameAt(address: number): string {
    return this.#find(address)?.region.name ?? `unclaimed ${this.#name} 0x${address.toString(16)}`
  }

  /** Reads 1, 2 or 4 bytes; all-ones where nothing answers. */
  read(address: number, size: number): number {
    const slice = this.#find(address)
    const mask = size === 4 ? 0xffffffff : (1 << (size * 8)) - 1
    if (slice === undefined) {
      this.onUnclaimed?.('read', address, size)
      return mask >>> 0
    }
    const offset = address - slice.origin
    const { handler } = slice.region
    try {
      if (size >= slice.minSize && size <= slice.maxSize) {
        return (handler.read(offset, size) & mask) >>> 0
      }
      if (size < slice.minSize) return (handler.read(offset, slice.minSize) & mask) >>> 0
      const step = slice.maxSize
      const stepMask = (1 << (step * 8)) - 1
      let value = 0
      for (let i = 0; i < size; i += step) {
        value |= (handler.read(offset + i, step) & stepMask) << (i * 8)
      }
      return value >>> 0
    } catch (error) {
      throw deviceFault(slice.region, 'read', offset, size, error)
    }
  }

  /** Writes 1, 2 or 4 bytes; dropped where nothing answers. */
  write(address: number, size: number, value: number): void {
    const slice = this.#find(address)
    if (slice === undefined) {
      this.onUnclaimed?.('write', address, size)
      return
    }
    const offset = address - slice.origin
    const { handler } = slice.region
    try {
      if (size <= slice.maxSize) {
        handler.write(offset, Math.max(size, slice.minSize), value)
        return
      }
      const step = slice.maxSize
      const stepMask = (1 << (step * 8)) - 1
      for (let i = 0; i < size; i += step) {
        handler.write(offset + i, step, (value >>> (i * 8)) & stepMask)
      }
    } catch (error) {
      throw deviceFault(slice.region, 'write', offset, size, error)
    }
  }

  /** Reads elements of `size` bytes at one address, in order, into `target[start..end)`. */
  readString(address: number, size: number, target: Uint8Array, start: number, end: number): void {
    const slice = this.#find(address)
    if (slice?.region.handler.readString === undefined || !isWhole(slice, size)) {
      for (let at = start; at < end; at += size) {
        const value = this.read(address, size)
        for (let i = 0; i < size; i++) target[at + i] = value >>> (i * 8)
      }
      return
    }
    const offset = address - slice.origin
    try {
      slice.region.handler.readString(offset, size, target, start, end)
    } catch (error) {
      throw deviceFault(slice.region, 'read', offset, size, error)
    }
  }

  /** Writes elements of `size` bytes from `source[start..end)` to one address, in order. */
  writeString(address: number, size: number, source: Uint8Array, start: number, end: number): void {
    const slice = this.#find(address)
    if (slice?.region.handler.writeString === undefined || !isWhole(slice, size)) {
      for (let at = start; at < end; at += size) {
        let value = 0
        for (let i = 0; i < size; i++) value |= source[at + i]! << (i * 8)
        this.write(address, size, value >>> 0)
      }
      return
    }
    const offset = address - slice.origin
    try {
      slice.region.handler.writeString(offset, size, source, start, end)
    } catch (error) {
      throw deviceFault(slice.region, 'write', offset, size, error)
    }
  }

  #find(address: number): Slice | undefined {
    const last = this.#last
    if (last !== undefined && address >= last.start && address < last.end) return last
    const slices = this.#slices
    let low = 0
    let high = slices.length - 1
    while (low <= high) {
      const middle = (low + high) >> 1
      const slice = slices[middle]!
      if (address < slice.start) high = middle - 1
      else if (address >= slice.end) low = middle + 1
      else {
        this.#last = slice
        return slice
      }
    }
    return undefined
  }

  /** Lays the ranges over each other, lowest priority first; later ones cut earlier ones. */
  #rebuild(): void {
    let slices: Slice[] = []
    const ordered = this.#regions.toSorted((a, b) => (a.priority ?? 0) - (b.priority ?? 0))
    for (const region of ordered) {
      const start = region.base
      const end = region.base + region.len
      const cut: Slice[] = []
      for (const slice of slices) {
        if (slice.start < start) cut.push({ ...slice, end: Math.min(slice.end, start) })
        if (slice.end > end) cut.push({ ...slice, start: Math.max(slice.start, end) })
      }
      cut.push({
        start,
        end,
        region,
        origin: region.origin ?? region.base,
        minSize: region.access?.min ?? 1,
        maxSize: region.access?.max ?? 4,
      })
      slices = cut
    }
    this.#slices = slices.filter((s) => s.start < s.end).toSorted((a, b) => a.start - b.start)
    this.#last = undefined
  }
}

function isWhole({ minSize, maxSize }: Slice, size: number): boolean {
  return size >= minSize && size <= maxSize
}

function hexRange(range: { base: number; len: number }): string {
  return `0x${range.base.toString(16)}..0x${(range.base + range.len - 1).toString(16)}`
}

function deviceFault(
  region: Region,
  operation: 'read' | 'write',
  offset: number,
  size: number,
  cause: unknown,
): VmmError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new VmmError(
    'E_DEVICE_FAULT',
    `device ${region.name} threw in ${operation}(offset 0x${offset.toString(16)}, ` +
      `size ${size}): ${reason}`,
    { fields: { device: region.name, operation, offset, size }, cause },
  )
}
