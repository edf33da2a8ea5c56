import { VmmError } from '../errors.ts'
import { isLowRam } from '../machine/memory-map.ts'
import type { BootTarget } from './loader.ts'
import type { ImageFile, ImageTarget } from './image.ts'

/** Bytes of a file that belong at an address, with zeros behind them. */
export interface LoadSegment {
  offset: number
  gpa: number
  fileBytes: number
  memoryBytes: number
}

const ZEROS: Uint8Array = new Uint8Array(64 * 1024)

/** Loads all segments; returns the end of the highest. Throws `E_KERNEL_TOO_LARGE` outside RAM. */
export function loadSegments(
  image: ImageFile,
  segments: readonly LoadSegment[],
  { memory, map }: BootTarget,
): number {
  let end = 0
  for (const { offset, gpa, fileBytes, memoryBytes } of segments) {
    if (memoryBytes === 0) continue
    if (!isLowRam(map, gpa, memoryBytes)) {
      throw new VmmError(
        'E_KERNEL_TOO_LARGE',
        `the kernel ${image.path} has a segment at 0x${gpa.toString(16)} of ${memoryBytes} bytes ` +
          `that is not in RAM, which ends at 0x${map.lowRamEnd.toString(16)}; ` +
          'give the guest more memory or link the kernel lower',
        { fields: { path: image.path, gpa, size: memoryBytes, lowRamEnd: map.lowRamEnd } },
      )
    }
    image.copyTo(memory, gpa, offset, fileBytes)
    clear(memory, gpa + fileBytes, memoryBytes - fileBytes)
    end = Math.max(end, gpa + memoryBytes)
  }
  return end
}

function clear(memory: ImageTarget, gpa: number, length: number): void {
  for (let done = 0; done < length; done += ZEROS.length) {
    memory.write(gpa + done, ZEROS.subarray(0, Math.min(ZEROS.length, length - done)))
  }
}
