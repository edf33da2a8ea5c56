import { VmmError } from '../errors.ts'
import { HIGH_MEMORY_START, isLowRam } from '../machine/memory-map.ts'
import type { MemoryMap } from '../machine/memory-map.ts'
import { BOOT_CS, BOOT_DS, writeGdt, writePageTables } from './entry-tables.ts'
import { badImage, truncatedImage } from './image.ts'
import type { ImageFile, ImageTarget } from './image.ts'
import { encodeCommandLine, placeInitrd } from './initrd.ts'
import {
  BOOT_DATA_GPA,
  BOOT_INFO_GPA,
  COMMAND_LINE_GPA,
  COMMAND_LINE_MAX,
  GDT_GPA,
} from './loader.ts'
import type { BootEntry, BootImage, BootTarget } from './loader.ts'

// Offsets in the setup header and in boot_params, which are the same
// (Linux Documentation/arch/x86/boot.rst and zero-page.rst).
const SETUP_SECTS = 0x1f1
const SYSSIZE = 0x1f4
const BOOT_FLAG = 0x1fe
const HEADER_LENGTH = 0x201
const HEADER_MAGIC = 0x202
const VERSION = 0x206
const TYPE_OF_LOADER = 0x210
const LOADFLAGS = 0x211
const CODE32_START = 0x214
const RAMDISK_IMAGE = 0x218
const RAMDISK_SIZE = 0x21c
const CMD_LINE_PTR = 0x228
const INITRD_ADDR_MAX = 0x22c
const KERNEL_ALIGNMENT = 0x230
const RELOCATABLE = 0x234
const XLOADFLAGS = 0x236
const CMDLINE_SIZE = 0x238
const SETUP_DATA = 0x250
const PREF_ADDRESS = 0x258
const INIT_SIZE = 0x260
/** Every header that is understood here lies before this offset. */
const HEADER_END = 0x280
const ACPI_RSDP_ADDR = 0x070
const E820_ENTRIES = 0x1e8
const E820_TABLE = 0x2d0
const E820_ENTRY_BYTES = 20

/** The fields of `screen_info`, with which the page begins. */
const SCREEN_MODE = 0x06
const SCREEN_COLUMNS = 0x07
const SCREEN_EGA_BX = 0x0a
const SCREEN_LINES = 0x0e
const SCREEN_IS_VGA = 0x0f
const SCREEN_POINTS = 0x10

const MAGIC_HDRS = 0x5372_6448
const MAGIC_BOOT_FLAG = 0xaa55
const LOADED_HIGH = 0x01
const XLF_KERNEL_64 = 0x01
const LOADER_UNDEFINED = 0xff
/** The unit of the size in the header. */
const PARAGRAPH_BYTES = 16
const SECTOR_BYTES = 512
const BOOT_PARAMS_BYTES = 4096
/** The 64-bit entry point follows the 32-bit one at this distance. */
const ENTRY_64_OFFSET = 0x200
const SETUP_RNG_SEED = 9
const RNG_SEED_BYTES = 32
const WHAT = 'kernel'

/** Facts of a setup header, with the values that older protocols imply. */
export interface SetupHeader {
  setupBytes: number
  imageBytes: number
  version: number
  is64: boolean
  relocatable: boolean
  alignment: number
  prefGpa: number
  initBytes: number
  initrdMax: number
  cmdlineMax: number
}

/** Whether a file has a Linux setup header. */
export function isBzImage(head: DataView): boolean {
  return (
    head.byteLength >= HEADER_MAGIC + 4 &&
    head.getUint16(BOOT_FLAG, true) === MAGIC_BOOT_FLAG &&
    head.getUint32(HEADER_MAGIC, true) === MAGIC_HDRS
  )
}

/** A bzImage, entered in 64-bit mode where it can be, else at its 32-bit entry point. */
export class BzImage implements BootImage {
  readonly kind = 'bzImage'
  readonly #image: ImageFile
  readonly #initrd: ImageFile | undefined
  readonly #commandLine: Uint8Array
  readonly #header: SetupHeader

  constructor(image: ImageFile, initrd: ImageFile | undefined, append: string) {
    this.#image = image
    this.#initrd = initrd
    this.#header = parseHeader(image)
    this.#commandLine = encodeCommandLine(
      append,
      Math.min(this.#header.cmdlineMax, COMMAND_LINE_MAX - 1),
    )
  }

  close(): void {
    this.#image.close()
    this.#initrd?.close()
  }

  load(target: BootTarget): BootEntry {
    const { memory, map } = target
    const header = this.#header
    const kernelGpa = this.#kernelAddress(map)
    this.#image.copyTo(memory, kernelGpa, header.setupBytes, header.imageBytes)
    const kernelEnd =
      Math.max(kernelGpa, header.prefGpa) + Math.max(header.initBytes, header.imageBytes)

    const params = new DataView(new ArrayBuffer(BOOT_PARAMS_BYTES))
    const headerEnd = HEADER_MAGIC + this.#image.read(HEADER_LENGTH, 1)[0]!
    const headerBytes = this.#image.read(SETUP_SECTS, headerEnd - SETUP_SECTS)
    new Uint8Array(params.buffer).set(headerBytes, SETUP_SECTS)
    params.setUint8(TYPE_OF_LOADER, LOADER_UNDEFINED)
    params.setUint32(CODE32_START, kernelGpa, true)
    params.setUint32(CMD_LINE_PTR, COMMAND_LINE_GPA, true)
    params.setUint32(ACPI_RSDP_ADDR, target.rsdpGpa, true)
    if (this.#initrd !== undefined) {
      const gpa = placeInitrd(map, this.#initrd, kernelEnd, header.initrdMax + 1)
      this.#initrd.copyTo(memory, gpa, 0, this.#initrd.size)
      params.setUint32(RAMDISK_IMAGE, gpa, true)
      params.setUint32(RAMDISK_SIZE, this.#initrd.size, true)
    }
    if (target.hasTextScreen) writeScreenInfo(params)
    params.setUint8(E820_ENTRIES, map.e820.length)
    for (const [i, entry] of map.e820.entries()) {
      const at = E820_TABLE + i * E820_ENTRY_BYTES
      setUint64(params, at, entry.addr)
      setUint64(params, at + 8, entry.size)
      params.setUint32(at + 16, entry.type, true)
    }
    if (header.version >= 0x209) {
      setUint64(params, SETUP_DATA, writeRngSeed(memory, target))
    }
    memory.write(BOOT_INFO_GPA, new Uint8Array(params.buffer))
    memory.write(COMMAND_LINE_GPA, this.#commandLine)

    const mode = header.is64 ? 'long' : 'protected'
    const entry: BootEntry = {
      mode,
      rip: kernelGpa + (header.is64 ? ENTRY_64_OFFSET : 0),
      regs: { rsi: BOOT_INFO_GPA },
      codeSelector: BOOT_CS,
      dataSelector: BOOT_DS,
      gdtGpa: GDT_GPA,
      gdtBytes: writeGdt(memory, mode),
    }
    return header.is64 ? { ...entry, pageTableGpa: writePageTables(memory) } : entry
  }

  /** The preferred address where it fits, else the lowest one that the kernel can run at. */
  #kernelAddress(map: MemoryMap): number {
    const { relocatable, alignment, prefGpa, initBytes, imageBytes } = this.#header
    const needed = Math.max(initBytes, imageBytes)
    if (isLowRam(map, prefGpa, needed)) return prefGpa
    const lowest = Math.ceil(HIGH_MEMORY_START / alignment) * alignment
    if (relocatable && isLowRam(map, lowest, needed)) return lowest
    const neededMib = Math.ceil(
      ((relocatable ? Math.min(prefGpa, lowest) : prefGpa) + needed) / (1 << 20),
    )
    throw kernelTooLarge(this.#image, map, { gpa: prefGpa, needed, neededMib })
  }
}

/** A kernel that RAM does not hold from an address on. */
export function kernelTooLarge(
  { path }: ImageFile,
  { lowRamEnd }: MemoryMap,
  { gpa, needed, neededMib }: { gpa: number; needed: number; neededMib: number },
): VmmError {
  return new VmmError(
    'E_KERNEL_TOO_LARGE',
    `the kernel ${path} needs ${needed} bytes of memory from 0x${gpa.toString(16)} on, and RAM ends ` +
      `at 0x${lowRamEnd.toString(16)}; give the guest at least ${neededMib} MiB`,
    { fields: { path, needed, lowRamEnd } },
  )
}

/** @throws VmmError `E_IMAGE_FORMAT`, `E_IMAGE_TRUNCATED` */
export function parseHeader(image: ImageFile): SetupHeader {
  // A file that ends within the header reads as zeros here; the size check below reports it.
  const head = new Uint8Array(BOOT_PARAMS_BYTES)
  head.set(image.read(0, BOOT_PARAMS_BYTES))
  const view = new DataView(head.buffer)
  if (image.size < HEADER_END) throw truncatedImage(image, WHAT, HEADER_END)
  const version = view.getUint16(VERSION, true)
  if (version < 0x0202 || (view.getUint8(LOADFLAGS) & LOADED_HIGH) === 0) {
    throw badImage(
      image,
      WHAT,
      `is a Linux zImage of boot protocol ${version >> 8}.${version & 0xff}; ` +
        'only bzImages of protocol 2.2 and later boot here',
    )
  }
  const setupBytes = ((view.getUint8(SETUP_SECTS) || 4) + 1) * SECTOR_BYTES
  const promised = setupBytes + view.getUint32(SYSSIZE, true) * PARAGRAPH_BYTES
  // Whoever rounds the size up need not fill the file up: memtest86+ does not.
  const least = promised - (PARAGRAPH_BYTES - 1)
  if (image.size <= setupBytes || (version >= 0x0204 && image.size < least)) {
    throw truncatedImage(image, WHAT, Math.max(promised, setupBytes + 1))
  }
  const since = <T>(at: number, value: T, before: T): T => (version >= at ? value : before)
  const alignment = since(0x0205, view.getUint32(KERNEL_ALIGNMENT, true), 0)
  if (alignment !== 0 && (alignment & (alignment - 1)) !== 0) {
    throw badImage(image, WHAT, `asks for an alignment of ${alignment}, not a power of two`)
  }
  const prefHigh = since(0x020a, view.getUint32(PREF_ADDRESS + 4, true), 0)
  const prefLow = since(0x020a, view.getUint32(PREF_ADDRESS, true), HIGH_MEMORY_START)
  return {
    setupBytes,
    imageBytes: image.size - setupBytes,
    version,
    is64: since(0x020c, (view.getUint16(XLOADFLAGS, true) & XLF_KERNEL_64) !== 0, false),
    relocatable: since(0x0205, view.getUint8(RELOCATABLE) !== 0, false),
    alignment: Math.max(alignment, 4096),
    prefGpa: prefHigh * 0x1_0000_0000 + prefLow,
    initBytes: since(0x020a, view.getUint32(INIT_SIZE, true), 0),
    initrdMax: since(0x0203, view.getUint32(INITRD_ADDR_MAX, true), 0x37ff_ffff),
    cmdlineMax: since(0x0206, view.getUint32(CMDLINE_SIZE, true), 255),
  }
}

/** A setup_data node with a seed, so that the guest's random numbers work from the start. */
function writeRngSeed(memory: ImageTarget, target: BootTarget): number {
  const node = new DataView(new ArrayBuffer(16 + RNG_SEED_BYTES))
  node.setUint32(8, SETUP_RNG_SEED, true)
  node.setUint32(12, RNG_SEED_BYTES, true)
  target.entropy.fill(new Uint8Array(node.buffer, 16))
  memory.write(BOOT_DATA_GPA, new Uint8Array(node.buffer))
  return BOOT_DATA_GPA
}

/** What the kernel's own real-mode code would have found: a colour VGA in mode 3. */
function writeScreenInfo(params: DataView): void {
  params.setUint8(SCREEN_MODE, 3)
  params.setUint8(SCREEN_COLUMNS, 80)
  params.setUint16(SCREEN_EGA_BX, 3, true)
  params.setUint8(SCREEN_LINES, 25)
  params.setUint8(SCREEN_IS_VGA, 1)
  params.setUint16(SCREEN_POINTS, 16, true)
}

function setUint64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 0x1_0000_0000, true)
  view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true)
}
