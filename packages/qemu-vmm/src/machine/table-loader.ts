import { FW_CFG_NAME_BYTES } from '../chipset/fw-cfg.ts'

/** Bytes of a command of the `etc/table-loader` file. */
const COMMAND_BYTES = 128
const ALLOCATE = 1
const ADD_POINTER = 2
const ADD_CHECKSUM = 3

/** Where firmware puts a file: anywhere in RAM, or in the BIOS segment, where guests search. */
export type LoaderZone = 'high' | 'fseg'
const ZONES: Readonly<Record<LoaderZone, number>> = { high: 1, fseg: 2 }

/**
 * The program by which firmware loads tables of which it alone knows the addresses: place files,
 * add the address of one to a field of another, sum up bytes (QEMU's linker/loader interface).
 */
export class TableLoader {
  readonly #commands: Uint8Array[] = []

  /** Loads a file; `alignment` is a power of two. */
  allocate(file: string, alignment: number, zone: LoaderZone): void {
    const view = this.#command(ALLOCATE, file)
    view.setUint32(60, alignment, true)
    view.setUint8(64, ZONES[zone])
  }

  /** Adds the address of `source` to the little-endian field at `offset` of `target`. */
  addPointer(target: string, offset: number, size: 1 | 2 | 4 | 8, source: string): void {
    const view = this.#command(ADD_POINTER, target)
    setName(view, 60, source)
    view.setUint32(116, offset, true)
    view.setUint8(120, size)
  }

  /** Makes bytes from `start` on sum up to 0 through the byte at `offset`. */
  addChecksum(file: string, offset: number, start: number, length: number): void {
    const view = this.#command(ADD_CHECKSUM, file)
    view.setUint32(60, offset, true)
    view.setUint32(64, start, true)
    view.setUint32(68, length, true)
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#commands)
  }

  #command(kind: number, file: string): DataView {
    const bytes = new Uint8Array(COMMAND_BYTES)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, kind, true)
    setName(view, 4, file)
    this.#commands.push(bytes)
    return view
  }
}

function setName(view: DataView, at: number, name: string): void {
  if (name.length >= FW_CFG_NAME_BYTES) throw new RangeError(`the name ${name} is too long`)
  new Uint8Array(view.buffer).set(new TextEncoder().encode(name), at)
}
