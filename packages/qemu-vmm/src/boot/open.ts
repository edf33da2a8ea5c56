import { BzImage, isBzImage } from './bzimage.ts'
import { isElf } from './elf.ts'
import { ImageFile, badImage } from './image.ts'
import type { BootImage } from './loader.ts'
import { MultibootImage, findMultibootHeader } from './multiboot.ts'
import { PvhImage } from './pvh.ts'

const PROBE_BYTES = 8192

/** Paths and command line of a direct boot. */
export interface BootConfig {
  kernel: string
  initrd?: string
  append?: string
}

/**
 * Opens a kernel and recognises it by content. Throws `E_FILE` for what cannot be opened,
 * `E_IMAGE_FORMAT` for what is not a kernel, `E_IMAGE_TRUNCATED` for a part of one.
 */
export function openBootImage(config: BootConfig): BootImage {
  const append = config.append ?? ''
  const image = new ImageFile(config.kernel, 'kernel')
  const opened = [image]
  const initrd = (): ImageFile | undefined => {
    if (config.initrd === undefined) return undefined
    const file = new ImageFile(config.initrd, 'initrd')
    opened.push(file)
    return file
  }
  try {
    const head = new DataView(image.read(0, PROBE_BYTES).buffer)
    if (isBzImage(head)) return new BzImage(image, initrd(), append)
    const multiboot = findMultibootHeader(head)
    if (multiboot !== undefined) {
      return new MultibootImage(image, multiboot, config.initrd, append)
    }
    if (isElf(head)) return new PvhImage(image, initrd(), append)
    throw badImage(
      image,
      'kernel',
      `is ${describeContent(head)}, not a bzImage, a PVH-capable ELF file or a multiboot image`,
    )
  } catch (error) {
    for (const file of opened) file.close()
    throw error
  }
}

function describeContent(head: DataView): string {
  const bytes = new Uint8Array(head.buffer, 0, Math.min(head.byteLength, 512))
  const isText = bytes.every((b) => (b >= 0x20 && b < 0x7f) || (b >= 9 && b <= 13))
  if (isText) return 'a text file'
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) return 'a gzip file (unpack it first)'
  if (head.byteLength < 4096) return `a file of ${head.byteLength} bytes`
  return 'a file of unknown content'
}
