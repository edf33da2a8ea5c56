import { PT_LOAD, elfNotes, parseElf } from './elf.ts'
import type { Elf } from './elf.ts'
import { BOOT_CS, BOOT_DS, writeGdt } from './entry-tables.ts'
import { badImage } from './image.ts'
import type { ImageFile } from './image.ts'
import { encodeCommandLine, placeInitrd } from './initrd.ts'
import {
  BOOT_DATA_GPA,
  BOOT_INFO_GPA,
  COMMAND_LINE_GPA,
  COMMAND_LINE_MAX,
  GDT_GPA,
} from './loader.ts'
import type { BootEntry, BootImage, BootTarget } from './loader.ts'
import { loadSegments } from './segments.ts'

const XEN_NOTE_NAME = 'Xen'
const XEN_ELFNOTE_PHYS32_ENTRY = 18

// struct hvm_start_info, version 1 (Xen public/arch-x86/hvm/start_info.h).
const START_INFO_MAGIC = 0x336e_c578
const START_INFO_BYTES = 56
const MODULE_BYTES = 32
const MEMMAP_ENTRY_BYTES = 24

/** An ELF kernel with a PVH entry point, entered in 32-bit mode with paging off. */
export class PvhImage implements BootImage {
  readonly kind = 'pvh'
  readonly #image: ImageFile
  readonly #initrd: ImageFile | undefined
  readonly #commandLine: Uint8Array
  readonly #elf: Elf
  readonly #entry: number

  constructor(image: ImageFile, initrd: ImageFile | undefined, append: string) {
    this.#image = image
    this.#initrd = initrd
    this.#elf = parseElf(image)
    this.#entry = pvhEntry(image, this.#elf)
    this.#commandLine = encodeCommandLine(append, COMMAND_LINE_MAX - 1)
  }

  close(): void {
    this.#image.close()
    this.#initrd?.close()
  }

  load(target: BootTarget): BootEntry {
    const { memory, map } = target
    const loads = this.#elf.segments.filter((s) => s.type === PT_LOAD)
    const kernelEnd = loadSegments(this.#image, loads, target)

    const modulesGpa = BOOT_INFO_GPA + START_INFO_BYTES + 8
    const info = new DataView(new ArrayBuffer(START_INFO_BYTES))
    info.setUint32(0, START_INFO_MAGIC, true)
    info.setUint32(4, 1, true)
    if (this.#initrd !== undefined) {
      const gpa = placeInitrd(map, this.#initrd, kernelEnd, 0x1_0000_0000)
      this.#initrd.copyTo(memory, gpa, 0, this.#initrd.size)
      const module = new DataView(new ArrayBuffer(MODULE_BYTES))
      module.setUint32(0, gpa, true)
      module.setUint32(8, this.#initrd.size, true)
      memory.write(modulesGpa, new Uint8Array(module.buffer))
      info.setUint32(12, 1, true)
      info.setUint32(16, modulesGpa, true)
    }
    info.setUint32(24, COMMAND_LINE_GPA, true)
    info.setUint32(32, target.rsdpGpa, true)
    info.setUint32(40, BOOT_DATA_GPA, true)
    info.setUint32(48, map.e820.length, true)
    memory.write(BOOT_INFO_GPA, new Uint8Array(info.buffer))
    memory.write(COMMAND_LINE_GPA, this.#commandLine)
    memory.write(BOOT_DATA_GPA, memoryMapTable(target))
    return {
      mode: 'protected',
      rip: this.#entry,
      regs: { rbx: BOOT_INFO_GPA },
      codeSelector: BOOT_CS,
      dataSelector: BOOT_DS,
      gdtGpa: GDT_GPA,
      gdtBytes: writeGdt(memory, 'protected'),
    }
  }
}

function pvhEntry(image: ImageFile, elf: Elf): number {
  for (const note of elfNotes(image, elf)) {
    if (note.name !== XEN_NOTE_NAME || note.type !== XEN_ELFNOTE_PHYS32_ENTRY) continue
    const { data } = note
    if (data.length < 4) break
    return new DataView(data.buffer, data.byteOffset).getUint32(0, true)
  }
  throw badImage(
    image,
    'kernel',
    'is an ELF file without a PVH entry note; build it with CONFIG_PVH, or give the bzImage',
  )
}

function memoryMapTable({ map }: BootTarget): Uint8Array {
  const table = new DataView(new ArrayBuffer(map.e820.length * MEMMAP_ENTRY_BYTES))
  for (const [i, entry] of map.e820.entries()) {
    const at = i * MEMMAP_ENTRY_BYTES
    table.setBigUint64(at, BigInt(entry.addr), true)
    table.setBigUint64(at + 8, BigInt(entry.size), true)
    table.setUint32(at + 16, entry.type, true)
  }
  return new Uint8Array(table.buffer)
}
