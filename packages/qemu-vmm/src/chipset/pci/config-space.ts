/** Offsets in the header of a function (PCI 3.0, 6.1). */
export const PCI_VENDOR_ID = 0x00
export const PCI_DEVICE_ID = 0x02
export const PCI_COMMAND = 0x04
export const PCI_STATUS = 0x06
export const PCI_REVISION_ID = 0x08
export const PCI_CLASS_PROG = 0x09
export const PCI_CLASS_DEVICE = 0x0a
export const PCI_HEADER_TYPE = 0x0e
export const PCI_BASE_ADDRESS_0 = 0x10
export const PCI_SUBSYSTEM_VENDOR_ID = 0x2c
export const PCI_SUBSYSTEM_ID = 0x2e
export const PCI_PRIMARY_BUS = 0x18
export const PCI_SECONDARY_BUS = 0x19
export const PCI_SUBORDINATE_BUS = 0x1a
export const PCI_ROM_ADDRESS = 0x30
export const PCI_CAPABILITY_LIST = 0x34
export const PCI_INTERRUPT_LINE = 0x3c
export const PCI_INTERRUPT_PIN = 0x3d

export const PCI_COMMAND_IO = 0x001
export const PCI_COMMAND_MEMORY = 0x002
export const PCI_COMMAND_MASTER = 0x004
export const PCI_CACHE_LINE_SIZE = 0x0c
export const PCI_COMMAND_INTX_DISABLE = 0x400
export const PCI_STATUS_INTERRUPT = 0x08
export const PCI_ROM_ADDRESS_ENABLE = 1

const COMMAND_WRITABLE = 0x547
const STATUS_CLEARABLE = 0xf9
const STATUS_CAPABILITIES = 0x10
const FIRST_CAPABILITY = 0x40
/** What PCI has, and PCI Express (PCI Express 5.0, 7.2). */
export const CONFIG_BYTES = 256
export const EXTENDED_CONFIG_BYTES = 4096

/**
 * The 256 or 4096 bytes of a function's configuration space with a write mask and a write-1-to-clear
 * mask for every byte. Bytes outside both masks are read-only to the guest.
 */
export class ConfigSpace {
  readonly size: number
  readonly data: Uint8Array
  readonly #view: DataView
  readonly #writable: Uint8Array
  readonly #clearable: Uint8Array
  /** What could be written at some time: the guest may have locked it since. */
  #restorable: Uint8Array
  #initial: Uint8Array
  readonly #kept: { offset: number; size: number }[] = []
  #nextCapability = FIRST_CAPABILITY
  #lastPointer = PCI_CAPABILITY_LIST

  constructor(size: number = CONFIG_BYTES) {
    this.size = size
    this.data = new Uint8Array(size)
    this.#view = new DataView(this.data.buffer)
    this.#writable = new Uint8Array(size)
    this.#clearable = new Uint8Array(size)
    this.#restorable = new Uint8Array(size)
    this.#initial = new Uint8Array(size)
    this.allowWrites(PCI_COMMAND, 2, COMMAND_WRITABLE)
    this.allowWrites(PCI_INTERRUPT_LINE, 1, 0xff)
    this.#clearable[PCI_STATUS + 1] = STATUS_CLEARABLE
  }

  /** Lets the guest change the bits of `mask` in the `size` bytes at `offset`. */
  allowWrites(offset: number, size: number, mask: number): void {
    for (let i = 0; i < size; i++) {
      const bits = (mask >>> (i * 8)) & 0xff
      this.#writable[offset + i] = bits
      this.#restorable[offset + i]! |= bits
    }
  }

  /** Lets the guest clear the bits of `mask` in the `size` bytes at `offset` by writing ones. */
  allowClears(offset: number, size: number, mask: number): void {
    for (let i = 0; i < size; i++) this.#clearable[offset + i] = (mask >>> (i * 8)) & 0xff
  }

  /** Writes without regard to masks, as the function itself does. */
  set(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) this.data[offset + i] = (value >>> (i * 8)) & 0xff
  }

  get16(offset: number): number {
    return this.#view.getUint16(offset, true)
  }

  get32(offset: number): number {
    return this.#view.getUint32(offset, true)
  }

  /**
   * Appends a capability to the list (PCI 3.0, 6.7): `content` begins with room for its ID and the
   * pointer to the next. It is behind the last one, or where `place` says. Returns its offset; throws
   * RangeError when no room is left.
   */
  addCapability(id: number, content: Uint8Array, place?: number): number {
    const at = place ?? this.#nextCapability
    if (at + content.length > CONFIG_BYTES) {
      throw new RangeError(
        `capability 0x${id.toString(16)} does not fit behind 0x${at.toString(16)}`,
      )
    }
    this.data.set(content, at)
    this.data[at] = id
    this.data[at + 1] = 0
    // The last one, or the header, points to the new one.
    this.data[this.#lastPointer] = at
    this.data[PCI_STATUS] = this.data[PCI_STATUS]! | STATUS_CAPABILITIES
    this.#lastPointer = at + 1
    this.#nextCapability = (at + content.length + 3) & ~3
    return at
  }

  /** Makes the present contents those after reset. */
  seal(): void {
    this.#initial = this.data.slice()
    this.#restorable = this.#writable.slice()
  }

  /** Lets a reset pass over these bytes: only power-on gives them their first values. */
  keepOverReset(offset: number, size: number): void {
    this.#kept.push({ offset, size })
  }

  reset(): void {
    const next = this.#initial.slice()
    for (const { offset, size } of this.#kept) {
      next.set(this.data.subarray(offset, offset + size), offset)
    }
    this.data.set(next)
  }

  read(offset: number, size: number): number {
    let value = 0
    for (let i = 0; i < size; i++) value |= (this.data[offset + i] ?? 0xff) << (i * 8)
    return value >>> 0
  }

  write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size && offset + i < this.size; i++) {
      const at = offset + i
      const byte = (value >>> (i * 8)) & 0xff
      const mask = this.#writable[at]!
      const kept = this.data[at]! & ~mask
      this.data[at] = (kept | (byte & mask)) & ~(byte & this.#clearable[at]!)
    }
  }

  save(): Uint8Array {
    return this.data.slice()
  }

  /** Restores what the guest may change; identity and capabilities stay this function's own. */
  load(saved: Uint8Array): void {
    for (let at = 0; at < this.size; at++) {
      const mask = this.#restorable[at]! | this.#clearable[at]!
      this.data[at] = (this.data[at]! & ~mask) | (saved[at]! & mask)
    }
  }
}
