import { EBDA_START, HIGH_MEMORY_START } from '../machine/memory-map.ts'
import { VmmError } from '../errors.ts'
import { PT_LOAD, isElf, parseElf } from './elf.ts'
import { BOOT_CS, BOOT_DS, writeGdt } from './entry-tables.ts'
import { ImageFile, badImage, truncatedImage } from './image.ts'
import { encodeCommandLine } from './initrd.ts'
import { BOOT_DATA_GPA, BOOT_INFO_GPA, COMMAND_LINE_GPA, GDT_GPA } from './loader.ts'
import type { BootEntry, BootImage, BootTarget } from './loader.ts'
import { loadSegments } from './segments.ts'
import type { LoadSegment } from './segments.ts'

// Multiboot specification 0.6.96, sections 3.1 and 3.3.
const SEARCH_BYTES = 8192
const HEADER_MAGIC = 0x1bad_b002
const BOOT_MAGIC = 0x2bad_b002
const FLAG_VIDEO = 1 << 2
const FLAG_ADDRESSES = 1 << 16
const REQUIRED_FLAGS = 0xffff
/** Page alignment and memory information, which every boot here gives, and video. */
const KNOWN_FLAGS = 0x7
const ADDRESS_FIELDS_BYTES = 32

const INFO_BYTES = 120
const INFO_MEMORY = 1 << 0
const INFO_COMMAND_LINE = 1 << 2
const INFO_MODULES = 1 << 3
const INFO_MEMORY_MAP = 1 << 6
const INFO_LOADER_NAME = 1 << 9
const MODULE_BYTES = 16
const MAP_ENTRY_BYTES = 24
const MAX_MODULES = 64
const STRINGS_BYTES = 0x1_0000
const PAGE = 4096
/** Words of the BIOS data area: the segment of its extension, and KiB of memory below that. */
const BDA_EBDA_SEGMENT = 0x40e
const BDA_BASE_MEMORY = 0x413
const LOADER_NAME = 'qemu-vmm'

interface MultibootModule {
  image: ImageFile
  /** File name and arguments, which the kernel gets as the module's string. */
  string: string
}

/** Finds the header: 32-bit aligned, magic, flags and checksum in the first 8 KiB. */
export function findMultibootHeader(head: DataView): number | undefined {
  const end = Math.min(head.byteLength, SEARCH_BYTES) - 12
  for (let at = 0; at <= end; at += 4) {
    if (head.getUint32(at, true) !== HEADER_MAGIC) continue
    const sum = HEADER_MAGIC + head.getUint32(at + 4, true) + head.getUint32(at + 8, true)
    if (sum % 0x1_0000_0000 === 0) return at
  }
  return undefined
}

/** A multiboot-1 kernel with its modules. */
export class MultibootImage implements BootImage {
  readonly kind = 'multiboot'
  readonly #image: ImageFile
  readonly #modules: MultibootModule[]
  readonly #commandLine: string
  readonly #segments: LoadSegment[]
  readonly #entry: number

  /** `initrd` lists modules as `file arguments,file arguments`; a literal comma is `,,`. */
  constructor(image: ImageFile, headerAt: number, initrd: string | undefined, append: string) {
    this.#image = image
    const { segments, entry } = layout(image, headerAt)
    this.#segments = segments
    this.#entry = entry
    this.#commandLine = append === '' ? image.path : `${image.path} ${append}`
    this.#modules = initrd === undefined ? [] : openModules(initrd)
  }

  close(): void {
    this.#image.close()
    for (const { image } of this.#modules) image.close()
  }

  load(target: BootTarget): BootEntry {
    const { memory, map } = target
    let next = loadSegments(this.#image, this.#segments, target)
    const strings = new StringArea()
    const modules = new DataView(new ArrayBuffer(this.#modules.length * MODULE_BYTES))
    for (const [i, { image, string }] of this.#modules.entries()) {
      const gpa = Math.max(HIGH_MEMORY_START, Math.ceil(next / PAGE) * PAGE)
      if (gpa + image.size > map.lowRamEnd) {
        throw new VmmError(
          'E_INITRD_TOO_LARGE',
          `the module ${image.path} of ${image.size} bytes does not fit between ` +
            `0x${gpa.toString(16)} and the end of RAM at 0x${map.lowRamEnd.toString(16)}`,
          { fields: { path: image.path, size: image.size, limit: map.lowRamEnd } },
        )
      }
      image.copyTo(memory, gpa, 0, image.size)
      next = gpa + image.size
      modules.setUint32(i * MODULE_BYTES, gpa, true)
      modules.setUint32(i * MODULE_BYTES + 4, next, true)
      modules.setUint32(i * MODULE_BYTES + 8, strings.add(string), true)
    }
    const mapTable = memoryMapTable(target)
    const modulesGpa = BOOT_DATA_GPA + mapTable.length
    const info = new DataView(new ArrayBuffer(INFO_BYTES))
    const flags =
      INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME
    info.setUint32(0, flags, true)
    info.setUint32(4, EBDA_START >>> 10, true)
    info.setUint32(8, (map.lowRamEnd - HIGH_MEMORY_START) >>> 10, true)
    info.setUint32(16, strings.add(this.#commandLine), true)
    info.setUint32(20, this.#modules.length, true)
    info.setUint32(24, modulesGpa, true)
    info.setUint32(44, mapTable.length, true)
    info.setUint32(48, BOOT_DATA_GPA, true)
    info.setUint32(64, strings.add(LOADER_NAME), true)
    memory.write(BOOT_INFO_GPA, new Uint8Array(info.buffer))
    memory.write(BOOT_DATA_GPA, mapTable)
    memory.write(modulesGpa, new Uint8Array(modules.buffer))
    memory.write(COMMAND_LINE_GPA, strings.bytes())
    // Xen, for one, puts its start of other processors below what a BIOS says that it has, not the loader.
    memory.write(BDA_EBDA_SEGMENT, word(EBDA_START >>> 4))
    memory.write(BDA_BASE_MEMORY, word(EBDA_START >>> 10))
    // The extension begins with its own length in KiB.
    memory.write(EBDA_START, word(1))
    return {
      mode: 'protected',
      rip: this.#entry,
      regs: { rax: BOOT_MAGIC, rbx: BOOT_INFO_GPA },
      codeSelector: BOOT_CS,
      dataSelector: BOOT_DS,
      gdtGpa: GDT_GPA,
      gdtBytes: writeGdt(memory, 'protected'),
    }
  }
}

function word(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >>> 8)
}

/** NUL-terminated strings one after the other, from `COMMAND_LINE_GPA` on. */
class StringArea {
  readonly #parts: Uint8Array[] = []
  #length = 0

  add(text: string): number {
    const gpa = COMMAND_LINE_GPA + this.#length
    const part = encodeCommandLine(text, STRINGS_BYTES - this.#length - 1)
    this.#parts.push(part)
    this.#length += part.length
    return gpa
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#parts)
  }
}

function layout(image: ImageFile, headerAt: number): { segments: LoadSegment[]; entry: number } {
  const head = image.read(0, SEARCH_BYTES)
  const view = new DataView(head.buffer)
  const flags = view.getUint32(headerAt + 4, true)
  const unknown = flags & REQUIRED_FLAGS & ~KNOWN_FLAGS
  if (unknown !== 0 || flags & FLAG_VIDEO) {
    const feature = unknown === 0 ? 'a video mode' : `features 0x${unknown.toString(16)}`
    throw badImage(
      image,
      'kernel',
      `is a multiboot image that needs ${feature}, not available here`,
    )
  }
  if (flags & FLAG_ADDRESSES) {
    if (headerAt + ADDRESS_FIELDS_BYTES > head.length) {
      throw truncatedImage(image, 'kernel', headerAt + ADDRESS_FIELDS_BYTES)
    }
    return addressFields(image, view, headerAt)
  }
  if (!isElf(view)) {
    throw badImage(image, 'kernel', 'is a multiboot image with neither addresses nor an ELF header')
  }
  const elf = parseElf(image)
  if (elf.is64) {
    throw badImage(
      image,
      'kernel',
      'is a 64-bit multiboot image; multiboot-1 kernels are entered in 32-bit mode, so build it ' +
        'as 32-bit ELF',
    )
  }
  return { segments: elf.segments.filter((s) => s.type === PT_LOAD), entry: elf.entry }
}

/** The address fields of the header, for images that are not ELF ("a.out kludge"). */
function addressFields(
  image: ImageFile,
  view: DataView,
  headerAt: number,
): { segments: LoadSegment[]; entry: number } {
  const field = (index: number): number => view.getUint32(headerAt + 12 + index * 4, true)
  const [headerGpa, loadGpa, loadEnd, bssEnd, entry] = [0, 1, 2, 3, 4].map(field) as [
    number,
    number,
    number,
    number,
    number,
  ]
  const offset = headerAt - (headerGpa - loadGpa)
  const fileBytes = loadEnd === 0 ? image.size - offset : loadEnd - loadGpa
  if (headerGpa < loadGpa || offset < 0 || fileBytes <= 0) {
    throw badImage(
      image,
      'kernel',
      'is a multiboot image whose address fields contradict each other',
    )
  }
  if (offset + fileBytes > image.size) throw truncatedImage(image, 'kernel', offset + fileBytes)
  const memoryBytes = Math.max(fileBytes, bssEnd === 0 ? 0 : bssEnd - loadGpa)
  return { segments: [{ offset, gpa: loadGpa, fileBytes, memoryBytes }], entry }
}

function openModules(list: string): MultibootModule[] {
  const parts = list
    .replaceAll(',,', '\0')
    .split(',')
    .map((part) => part.replaceAll('\0', ',').trim())
  if (parts.length > MAX_MODULES) {
    throw new VmmError('E_CONFIG', `${parts.length} modules are given; at most ${MAX_MODULES} work`)
  }
  const opened: MultibootModule[] = []
  try {
    for (const string of parts) {
      opened.push({ image: new ImageFile(string.split(' ', 1)[0] ?? '', 'module'), string })
    }
  } catch (error) {
    for (const { image } of opened) image.close()
    throw error
  }
  return opened
}

function memoryMapTable({ map }: BootTarget): Uint8Array {
  const table = new DataView(new ArrayBuffer(map.e820.length * MAP_ENTRY_BYTES))
  for (const [i, entry] of map.e820.entries()) {
    const at = i * MAP_ENTRY_BYTES
    // The size field does not count itself.
    table.setUint32(at, MAP_ENTRY_BYTES - 4, true)
    table.setBigUint64(at + 4, BigInt(entry.addr), true)
    table.setBigUint64(at + 12, BigInt(entry.size), true)
    table.setUint32(at + 20, entry.type, true)
  }
  return new Uint8Array(table.buffer)
}
