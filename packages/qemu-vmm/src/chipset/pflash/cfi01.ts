import type { IoHandler, Stateful } from '../../device.ts'
import { VmmError } from '../../errors.ts'
import { bytes, int, parseState, u16, u8 } from '../../machine/state.ts'
import { cfiTable } from './cfi-table.ts'

/** What an erase erases. */
export const FLASH_SECTOR_BYTES = 4096
const ERASED = 0xff

/** Commands of Intel's extended set (JESD68.01; Intel 28F320J5 data sheet, 4). */
const READ_ARRAY = 0x00
const PROGRAM_ALTERNATE = 0x10
const ERASE = 0x20
const ERASE_ALTERNATE = 0x28
const PROGRAM = 0x40
const CLEAR_STATUS = 0x50
const LOCK = 0x60
const READ_STATUS = 0x70
const READ_ID = 0x90
const QUERY = 0x98
const CONFIRM = 0xd0
const LOCK_BIT = 0x01
const WRITE_BUFFER = 0xe8
const RESET = 0xff

const READY = 0x80
const ERASE_ERROR = 0x20
const PROGRAM_ERROR = 0x10

/** The memory behind the chip, and who else looks at it. */
export interface FlashMemory {
  readonly bytes: Uint8Array
  /** The guest reads the bytes themselves, or asks the chip. */
  showArray(shown: boolean): void
  /** Bytes have changed. */
  written(offset: number, length: number): void
}

export interface FlashState {
  bytes: Uint8Array
  command: number
  cycle: number
  counter: number
  status: number
}

/**
 * A parallel NOR flash chip with Intel's command set and eight data lines, as QEMU's `pflash_cfi01`
 * presents it. While it shows its array the guest reads it as memory; every write is a command.
 */
export class Cfi01Flash implements Stateful<FlashState>, IoHandler {
  readonly #name: string
  readonly #memory: FlashMemory
  readonly #readOnly: boolean
  readonly #table: Uint8Array
  #command = READ_ARRAY
  /** Writes of a command of several that have come. */
  #cycle = 0
  /** Bytes of a write buffer that are still to come, less one. */
  #counter = 0
  #status = READY

  constructor(name: string, memory: FlashMemory, readOnly: boolean) {
    this.#name = name
    this.#memory = memory
    this.#readOnly = readOnly
    this.#table = cfiTable(memory.bytes.length, FLASH_SECTOR_BYTES)
  }

  reset(): void {
    this.#status = READY
    this.#readArray()
  }

  save(): FlashState {
    return {
      bytes: this.#memory.bytes.slice(),
      command: this.#command,
      cycle: this.#cycle,
      counter: this.#counter,
      status: this.#status,
    }
  }

  load(state: FlashState): void {
    const saved = parseState<FlashState>(this.#name, state, {
      bytes: bytes(this.#memory.bytes.length),
      command: u8,
      cycle: int(0, 3),
      counter: u16,
      status: u8,
    })
    const own = this.#memory.bytes
    if (
      this.#readOnly &&
      !Buffer.from(own.buffer, own.byteOffset, own.length).equals(saved.bytes)
    ) {
      throw new VmmError(
        'E_STATE',
        `the saved state of ${this.#name} has other contents than the read-only image; use the same`,
        { fields: { device: this.#name } },
      )
    }
    for (let at = 0; at < own.length; at += FLASH_SECTOR_BYTES) {
      const before = Buffer.from(own.buffer, own.byteOffset + at, FLASH_SECTOR_BYTES)
      const now = saved.bytes.subarray(at, at + FLASH_SECTOR_BYTES)
      if (before.equals(now)) continue
      own.set(now, at)
      this.#memory.written(at, FLASH_SECTOR_BYTES)
    }
    this.#command = saved.command
    this.#cycle = saved.cycle
    this.#counter = saved.counter
    this.#status = saved.status
    this.#memory.showArray(this.#command === READ_ARRAY && this.#cycle === 0)
  }

  /** A read while the chip does not show its array. */
  read(offset: number, size: number): number {
    switch (this.#command) {
      case PROGRAM_ALTERNATE:
      case ERASE:
      case ERASE_ALTERNATE:
      case PROGRAM:
      case CLEAR_STATUS:
      case LOCK:
      case READ_STATUS:
      case WRITE_BUFFER:
        // Each of the chips that a wider access would reach shows the same.
        return (this.#status * 0x0101_0101) >>> 0
      case READ_ID:
        // QEMU's boards give theirs no numbers.
        return 0
      case QUERY: {
        let value = 0
        for (let i = 0; i < size; i++) value |= (this.#table[(offset & 0xff) + i] ?? 0) << (i * 8)
        return value >>> 0
      }
      default:
        return this.array(offset, size)
    }
  }

  /** Wider accesses than a byte are the bytes one after the other. */
  write(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) this.#write(offset + i, (value >>> (i * 8)) & 0xff)
  }

  /** The bytes themselves. */
  array(offset: number, size: number): number {
    let value = 0
    for (let i = 0; i < size; i++) value |= (this.#memory.bytes[offset + i] ?? ERASED) << (i * 8)
    return value >>> 0
  }

  #write(offset: number, byte: number): void {
    switch (this.#cycle) {
      case 0:
        this.#memory.showArray(false)
        this.#begin(offset, byte)
        return
      case 1:
        this.#goOn(offset, byte)
        return
      case 2:
        this.#buffer(offset, byte)
        return
      default:
        // A buffer is confirmed, or nothing is known of it any more.
        if (byte !== CONFIRM) return this.#readArray()
        this.#done()
    }
  }

  #begin(offset: number, byte: number): void {
    switch (byte) {
      case READ_STATUS:
      case READ_ID:
        this.#command = byte
        return
      case ERASE:
        this.#erase(offset - (offset % FLASH_SECTOR_BYTES))
        break
      case WRITE_BUFFER:
        this.#status |= READY
        break
      case PROGRAM:
      case PROGRAM_ALTERNATE:
      case LOCK:
      case QUERY:
        break
      case CLEAR_STATUS:
        this.#status = 0
        return this.#readArray()
      default:
        // READ_ARRAY, RESET, and what is no command.
        return this.#readArray()
    }
    this.#command = byte
    this.#cycle = 1
  }

  #goOn(offset: number, byte: number): void {
    switch (this.#command) {
      case PROGRAM:
      case PROGRAM_ALTERNATE:
        this.#program(offset, byte)
        return this.#done()
      case ERASE:
      case ERASE_ALTERNATE:
        return byte === CONFIRM ? this.#done() : this.#readArray()
      case LOCK:
        return byte === CONFIRM || byte === LOCK_BIT ? this.#done() : this.#readArray()
      case WRITE_BUFFER:
        this.#counter = byte
        this.#cycle = 2
        return
      case QUERY:
        if (byte === RESET) this.#readArray()
        return
      default:
        return this.#readArray()
    }
  }

  #buffer(offset: number, byte: number): void {
    this.#program(offset, byte)
    this.#status |= READY
    if (this.#counter === 0) this.#cycle = 3
    else this.#counter--
  }

  #erase(sector: number): void {
    this.#status |= READY
    if (this.#readOnly) {
      this.#status |= ERASE_ERROR
      return
    }
    this.#memory.bytes.fill(ERASED, sector, sector + FLASH_SECTOR_BYTES)
    this.#memory.written(sector, FLASH_SECTOR_BYTES)
  }

  /** Programs a byte as QEMU does, which stores it whatever was there. */
  #program(offset: number, byte: number): void {
    if (this.#readOnly) {
      this.#status |= PROGRAM_ERROR
      return
    }
    if (offset >= this.#memory.bytes.length) return
    this.#memory.bytes[offset] = byte
    this.#memory.written(offset, 1)
  }

  #done(): void {
    this.#cycle = 0
    this.#status |= READY
  }

  #readArray(): void {
    this.#command = READ_ARRAY
    this.#cycle = 0
    this.#memory.showArray(true)
  }
}
