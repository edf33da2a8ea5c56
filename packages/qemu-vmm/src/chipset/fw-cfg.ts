import type { GuestMemory, IoHandler, Stateful } from '../device.ts'
import { VmmError } from '../errors.ts'
import { bytes, parseState, u16, u32 } from '../machine/state.ts'

/** Selector and data register, then the DMA address register. */
export const FW_CFG_PORT = 0x510
export const FW_CFG_PORTS = 12
const DMA_OFFSET = 4
const DMA_SIGNATURE = new TextEncoder().encode('QEMU CFG')

// Selectors of docs/specs/fw_cfg of QEMU and of its x86 machines.
const SIGNATURE = 0x00
const ID = 0x01
const FILE_DIR = 0x19
const FILE_FIRST = 0x20
const FILE_SLOTS = 0x20
const WRITE_CHANNEL = 0x4000
const ARCH_LOCAL = 0x8000
const INVALID = 0xffff

/** Items that x86 machines have at fixed selectors. */
export const FW_CFG_ITEM = {
  uuid: 0x02,
  ramSize: 0x03,
  noGraphic: 0x04,
  cpus: 0x05,
  kernelAddress: 0x07,
  kernelSize: 0x08,
  initrdAddress: 0x0a,
  initrdSize: 0x0b,
  numa: 0x0d,
  bootMenu: 0x0e,
  maxCpus: 0x0f,
  kernel: 0x11,
  initrd: 0x12,
  commandLineAddress: 0x13,
  commandLineSize: 0x14,
  commandLine: 0x15,
  setupAddress: 0x16,
  setupSize: 0x17,
  setup: 0x18,
  irq0Override: 0x8002,
  hpet: 0x8004,
} as const

const ID_TRADITIONAL = 1
const ID_DMA = 2

const DIR_ENTRY_BYTES = 64
/** A name and the zero behind it. */
export const FW_CFG_NAME_BYTES = 56

const DMA_ERROR = 1
const DMA_READ = 2
const DMA_SKIP = 4
const DMA_SELECT = 8
const DMA_WRITE = 16
const DMA_BLOCK_BYTES = 16

/** A file of the directory. */
export interface FwCfgFile {
  /** At most 55 bytes of ASCII, such as `opt/org.example/name`. */
  name: string
  data: Uint8Array
  /** Whether firmware may write it now, by DMA; by default never. */
  isWritable?(): boolean
  /** Called when it is selected, before its bytes are read. */
  selected?(): void
}

/** Files whose contents depend on what the firmware has set up when it asks for the first of them. */
export interface LiveFiles {
  readonly names: readonly string[]
  /** All of them; the lengths are always the same. */
  build(): readonly FwCfgFile[]
}

export interface FwCfgState {
  /** What live files were built, by selector; undefined before. */
  live?: Record<number, Uint8Array>
  selected: number
  offset: number
  dmaHigh: number
}

const NOTHING: Uint8Array = new Uint8Array(0)

/** QEMU's firmware configuration device: data by selector, read by port or by DMA. */
export class FwCfg implements IoHandler, Stateful<FwCfgState> {
  readonly #memory: GuestMemory
  readonly #items = new Map<number, Uint8Array>()
  readonly #files: readonly FwCfgFile[]
  readonly #live: LiveFiles | undefined
  /** Selectors of live files. */
  readonly #liveKeys: ReadonlySet<number>
  #isBuilt = false
  #selected = 0
  #offset = 0
  #dmaHigh = 0

  /** Throws `E_CONFIG` for names that cannot be files, or too many. */
  constructor(
    memory: GuestMemory,
    items: ReadonlyMap<number, Uint8Array>,
    files: readonly FwCfgFile[],
    live?: LiveFiles,
  ) {
    this.#memory = memory
    this.#live = live
    this.#files = files.toSorted((a, b) => (a.name < b.name ? -1 : 1))
    for (const [selector, data] of items) this.#items.set(selector, data)
    this.#items.set(SIGNATURE, DMA_SIGNATURE.subarray(0, 4))
    this.#items.set(ID, little(ID_TRADITIONAL | ID_DMA, 4))
    for (const [i, { data }] of this.#files.entries()) this.#items.set(FILE_FIRST + i, data)
    this.#items.set(FILE_DIR, directory(this.#files))
    const keys = this.#files.flatMap(({ name }, i) =>
      live?.names.includes(name) === true ? [FILE_FIRST + i] : [],
    )
    this.#liveKeys = new Set(keys)
  }

  /** Changes what there is at a selector. */
  setItem(selector: number, data: Uint8Array): void {
    this.#items.set(selector, data)
  }

  reset(): void {
    this.#isBuilt = false
    this.#select(0)
    this.#dmaHigh = 0
  }

  save(): FwCfgState {
    const state = { selected: this.#selected, offset: this.#offset, dmaHigh: this.#dmaHigh }
    if (!this.#isBuilt) return state
    return {
      ...state,
      live: Object.fromEntries(Array.from(this.#liveKeys, (key) => [key, this.#items.get(key)!])),
    }
  }

  load(state: FwCfgState): void {
    const { selected, offset, dmaHigh } = parseState<Omit<FwCfgState, 'live'>>('fw-cfg', state, {
      selected: u16,
      offset: u32,
      dmaHigh: u32,
    })
    const { live } = state
    this.#isBuilt = live !== undefined
    for (const key of this.#liveKeys) {
      const data = live?.[key]
      if (data === undefined) continue
      this.#items.set(key, bytes(this.#items.get(key)!.length)(data) ?? this.#items.get(key)!)
    }
    this.#selected = selected
    this.#offset = offset
    this.#dmaHigh = dmaHigh
  }

  read(offset: number, size: number): number {
    if (offset >= DMA_OFFSET) {
      let value = 0
      for (let i = 0; i < size; i++)
        value |= (DMA_SIGNATURE[offset - DMA_OFFSET + i] ?? 0) << (i * 8)
      return value
    }
    // A byte at either of the two ports is the next one; the selector itself cannot be read.
    return size === 1 && offset <= 1 ? this.#next() : 0
  }

  write(offset: number, size: number, value: number): void {
    if (offset === 0 && size === 2) this.#select(value)
    if (size !== 4) return
    if (offset === DMA_OFFSET) this.#dmaHigh = swap(value)
    if (offset === DMA_OFFSET + 4) {
      const address = this.#dmaHigh * 0x1_0000_0000 + swap(value)
      this.#dmaHigh = 0
      this.#transfer(address)
    }
  }

  #select(key: number): void {
    this.#offset = 0
    const entry = key & ~(WRITE_CHANNEL | ARCH_LOCAL)
    this.#selected = entry < FILE_FIRST + FILE_SLOTS ? key & ~WRITE_CHANNEL : INVALID
    if (!this.#isBuilt && this.#liveKeys.has(this.#selected)) this.#build()
    this.#file?.selected?.()
  }

  #build(): void {
    this.#isBuilt = true
    for (const { name, data } of this.#live?.build() ?? []) {
      const at = this.#files.findIndex((file) => file.name === name)
      if (at >= 0) this.#items.set(FILE_FIRST + at, data)
    }
  }

  get #file(): FwCfgFile | undefined {
    return this.#files[this.#selected - FILE_FIRST]
  }

  get #data(): Uint8Array {
    return this.#items.get(this.#selected) ?? NOTHING
  }

  #next(): number {
    const data = this.#data
    return this.#offset < data.length ? data[this.#offset++]! : 0
  }

  /** Does what the block at `address` says, and puts the result into it. */
  #transfer(address: number): void {
    const { control, length, target } = this.#block(address) ?? {}
    if (control === undefined) return
    if (control & DMA_SELECT) this.#select(control >>> 16)
    let failed = false
    if (control & DMA_READ) failed = !this.#copy(target!, length!)
    else if (control & DMA_WRITE) failed = !this.#overwrite(target!, length!)
    else if (control & DMA_SKIP) this.#skip(length!)
    // The block was read: it is in RAM, and can be answered.
    this.#memory.write(address, Uint8Array.of(0, 0, 0, failed ? DMA_ERROR : 0))
  }

  #block(address: number): { control: number; length: number; target: number } | undefined {
    try {
      const bytes = new Uint8Array(DMA_BLOCK_BYTES)
      this.#memory.read(address, bytes)
      const view = new DataView(bytes.buffer)
      return {
        control: view.getUint32(0),
        length: view.getUint32(4),
        target: view.getUint32(8) * 0x1_0000_0000 + view.getUint32(12),
      }
    } catch {
      // Not in RAM: there is no place for an answer either.
      return undefined
    }
  }

  /** The next bytes, and zeros behind the last. False outside RAM. */
  #copy(target: number, length: number): boolean {
    const data = this.#data.subarray(this.#offset, this.#offset + length)
    try {
      this.#memory.write(target, data)
      for (let done = data.length; done < length;) {
        const part = ZEROS.subarray(0, Math.min(ZEROS.length, length - done))
        this.#memory.write(target + done, part)
        done += part.length
      }
    } catch {
      return false
    }
    this.#offset += data.length
    return true
  }

  /** Takes the next bytes of a file from memory. False outside RAM, and for what cannot be written. */
  #overwrite(source: number, length: number): boolean {
    const file = this.#file
    if (file?.isWritable?.() !== true || this.#offset + length > file.data.length) return false
    const bytes = new Uint8Array(length)
    try {
      this.#memory.read(source, bytes)
    } catch {
      return false
    }
    file.data.set(bytes, this.#offset)
    this.#offset += length
    return true
  }

  #skip(length: number): void {
    this.#offset = Math.min(this.#offset + length, Math.max(this.#offset, this.#data.length))
  }
}

const ZEROS: Uint8Array = new Uint8Array(64 * 1024)

/** Little-endian bytes of an item. */
export function little(value: number, size: 2 | 4 | 8): Uint8Array {
  const view = new DataView(new ArrayBuffer(8))
  view.setBigInt64(0, BigInt(value), true)
  return new Uint8Array(view.buffer, 0, size)
}

function swap(value: number): number {
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0
}

function directory(files: readonly FwCfgFile[]): Uint8Array {
  if (files.length > FILE_SLOTS) {
    throw bad(`${files.length} fw_cfg files are given; ${FILE_SLOTS} fit`)
  }
  const view = new DataView(new ArrayBuffer(4 + files.length * DIR_ENTRY_BYTES))
  view.setUint32(0, files.length)
  for (const [i, { name, data }] of files.entries()) {
    if (files[i - 1]?.name === name) throw bad(`duplicate fw_cfg file name: ${name}`)
    if (!/^[\x21-\x7e]+$/.test(name) || name.length >= FW_CFG_NAME_BYTES) {
      throw bad(`'${name}' is no name for a fw_cfg file: 1 to ${FW_CFG_NAME_BYTES - 1} characters`)
    }
    const at = 4 + i * DIR_ENTRY_BYTES
    view.setUint32(at, data.length)
    view.setUint16(at + 4, FILE_FIRST + i)
    new Uint8Array(view.buffer, at + 8).set(new TextEncoder().encode(name))
  }
  return new Uint8Array(view.buffer)
}

function bad(message: string): VmmError {
  return new VmmError('E_CONFIG', message)
}
