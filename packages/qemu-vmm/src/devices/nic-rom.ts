import type { FirmwareFile } from '../firmware/find.ts'

/**
 * The option ROM of a kind of network card, by QEMU's name for it: iPXE, for BIOS and UEFI in one file, which
 * boots from the network.
 */
export function nicRom(card: string): FirmwareFile {
  return {
    name: `efi-${card}.rom`,
    what: 'network boot ROM',
    package: 'ipxe-qemu',
    option: 'romfile=',
  }
}
