import { FW_CFG_ITEM, little } from '../chipset/fw-cfg.ts'
import { isLowRam } from '../machine/memory-map.ts'
import type { MemoryMap } from '../machine/memory-map.ts'
import { ImageFile, badImage } from './image.ts'
import { isBzImage, kernelTooLarge, parseHeader } from './bzimage.ts'
import { encodeCommandLine, placeInitrd } from './initrd.ts'
import type { BootConfig } from './open.ts'

const SETUP_GPA = 0x1_0000
const COMMAND_LINE_GPA = 0x2_0000
const KERNEL_GPA = 0x10_0000
/** As much of the file as tells what it is. */
const PROBE_BYTES = 4096
/** What QEMU leaves free for ACPI tables at the end of low RAM. */
const TABLES_ROOM = 0x2_8000

// Offsets in the setup header (Linux Documentation/arch/x86/boot.rst).
const VIDEO_MODE = 0x1fa
const TYPE_OF_LOADER = 0x210
const LOADFLAGS = 0x211
const RAMDISK_IMAGE = 0x218
const RAMDISK_SIZE = 0x21c
const HEAP_END = 0x224
const COMMAND_LINE = 0x228
const XLOADFLAGS = 0x236
const LOADER_QEMU = 0xb0
const CAN_USE_HEAP = 0x80
const XLF_ABOVE_4G = 0x02
const VIDEO_MODES: Readonly<Record<string, number>> = { normal: 0xffff, ext: 0xfffe, ask: 0xfffd }

/**
 * A Linux kernel that firmware starts, as items of the firmware configuration device: UEFI firmware runs it as an application
 * of its own, a BIOS by an option ROM, which takes over what is here, with the setup header filled in.
 *
 * @throws VmmError `E_FILE`, `E_IMAGE_FORMAT`, `E_IMAGE_TRUNCATED`, `E_KERNEL_TOO_LARGE`, `E_INITRD_TOO_LARGE`, `E_CMDLINE_TOO_LONG`
 */
export function firmwareKernel(config: BootConfig, map: MemoryMap): Map<number, Uint8Array> {
  const image = new ImageFile(config.kernel, 'kernel')
  let initrd: ImageFile | undefined
  try {
    if (config.initrd !== undefined) initrd = new ImageFile(config.initrd, 'initrd')
    return itemsOf(image, initrd, config.append ?? '', map)
  } finally {
    image.close()
    initrd?.close()
  }
}

function itemsOf(
  image: ImageFile,
  initrd: ImageFile | undefined,
  append: string,
  map: MemoryMap,
): Map<number, Uint8Array> {
  if (!isBzImage(new DataView(image.read(0, PROBE_BYTES).buffer))) {
    throw badImage(image, 'kernel', 'is no bzImage, the only kind that firmware starts')
  }
  const header = parseHeader(image)
  const { setupBytes, imageBytes, version, initrdMax, initBytes } = header
  // Whatever else the file holds is not read: it is as long as somebody made it.
  if (!isLowRam(map, KERNEL_GPA, imageBytes)) {
    const neededMib = Math.ceil((KERNEL_GPA + imageBytes) / (1 << 20))
    throw kernelTooLarge(image, map, { gpa: KERNEL_GPA, needed: imageBytes, neededMib })
  }
  const commandLine = encodeCommandLine(append, header.cmdlineMax)
  const setup = image.read(0, setupBytes)
  const view = new DataView(setup.buffer)
  const items = new Map<number, Uint8Array>([
    [FW_CFG_ITEM.kernelAddress, little(KERNEL_GPA, 4)],
    [FW_CFG_ITEM.kernelSize, little(imageBytes, 4)],
    [FW_CFG_ITEM.kernel, image.read(setupBytes, imageBytes)],
    [FW_CFG_ITEM.setupAddress, little(SETUP_GPA, 4)],
    [FW_CFG_ITEM.setupSize, little(setupBytes, 4)],
    [FW_CFG_ITEM.setup, setup],
    [FW_CFG_ITEM.commandLineAddress, little(COMMAND_LINE_GPA, 4)],
    [FW_CFG_ITEM.commandLineSize, little(commandLine.length, 4)],
    [FW_CFG_ITEM.commandLine, commandLine],
  ])
  view.setUint32(COMMAND_LINE, COMMAND_LINE_GPA, true)
  const mode = videoMode(append)
  if (mode !== undefined) view.setUint16(VIDEO_MODE, mode, true)
  view.setUint8(TYPE_OF_LOADER, LOADER_QEMU)
  view.setUint8(LOADFLAGS, view.getUint8(LOADFLAGS) | CAN_USE_HEAP)
  view.setUint16(HEAP_END, COMMAND_LINE_GPA - SETUP_GPA - 0x200, true)
  if (initrd === undefined) return items
  const isAnywhere = version >= 0x020c && (view.getUint16(XLOADFLAGS, true) & XLF_ABOVE_4G) !== 0
  const most = isAnywhere ? 0xffff_ffff : initrdMax
  const limit = Math.min(most, map.lowRamEnd - TABLES_ROOM - 1)
  const gpa = placeInitrd(map, initrd, KERNEL_GPA + initBytes, limit)
  view.setUint32(RAMDISK_IMAGE, gpa, true)
  view.setUint32(RAMDISK_SIZE, initrd.size, true)
  return items
    .set(FW_CFG_ITEM.initrdAddress, little(gpa, 4))
    .set(FW_CFG_ITEM.initrdSize, little(initrd.size, 4))
    .set(FW_CFG_ITEM.initrd, initrd.read(0, initrd.size))
}

/** The value of `vga=`, which loaders take out of the command line for the kernel's setup. */
function videoMode(append: string): number | undefined {
  const word = /(?:^| )vga=(\S*)/.exec(append)?.[1]
  if (word === undefined) return undefined
  const named = VIDEO_MODES[word]
  if (named !== undefined) return named
  const number = Number(word)
  return Number.isInteger(number) ? number & 0xffff : undefined
}
