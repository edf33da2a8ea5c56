/** Bits of a programmable attribute map entry (82441FX data sheet, 3.2.16). */
export const PAM_READ = 1
export const PAM_WRITE = 2

/** The seven registers. The first one's high half is the BIOS segment; its low half is nothing. */
export const PAM_FIRST = 0x59
export const PAM_COUNT = 7

const SEGMENT_BYTES = 0x4000

/** The areas in the order of their addresses: twelve of 16 KiB, then the BIOS segment. */
export const PAM_AREAS: readonly { gpa: number; size: number }[] = [
  ...Array.from({ length: 12 }, (_, i) => ({
    gpa: 0xc_0000 + i * SEGMENT_BYTES,
    size: SEGMENT_BYTES,
  })),
  { gpa: 0xf_0000, size: 0x1_0000 },
]

/** Who makes the areas show what the registers say. */
export interface ShadowControl {
  /** For each of {@link PAM_AREAS}: whether reads and writes go to RAM. */
  show(modes: Uint8Array): void
  /** What is read-only has its first contents again: devices may have written there. */
  restore(): void
}

/** The modes of the areas by the registers, which begin at `first` of `config`. */
export function pamModes(config: Uint8Array, modes: Uint8Array, first: number = PAM_FIRST): void {
  for (let area = 0; area < 12; area++) {
    const register = config[first + 1 + (area >> 1)]!
    modes[area] = (area & 1 ? register >> 4 : register) & (PAM_READ | PAM_WRITE)
  }
  modes[12] = (config[first]! >> 4) & (PAM_READ | PAM_WRITE)
}
