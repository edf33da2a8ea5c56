// Machines that boot the whole Debian disk, and root's shell on their serial console.
import { join } from 'node:path'
import type { DeviceOption, MachineConfig, VirtualMachine } from 'qemu-vmm'
import { must } from './disk.ts'
import { guestFiles, imageCommand } from './guest.ts'
import { withoutEscapes } from './screen.ts'
import { uefiFlash } from './uefi.ts'

export type Firmware = 'SeaBIOS' | 'OVMF'
export type Board = 'pc' | 'q35'
/** How the disk is attached: as `if=virtio`, as `if=ide` on pc, or at an AHCI controller. */
export type Attachment = 'virtio' | 'ide' | 'ahci'

/** The prompt of root's shell, behind what the terminal is asked. */
const rootPrompt = /root@guest:~# $/
const patience = { timeoutMs: 600_000 }

/** An image in `folder` with Debian's disk behind it, or another. */
export function debianOverlay(folder: string, disk: string = guestFiles.debian): string {
  const image = join(folder, 'debian.qcow2')
  must(imageCommand, ['create', '-f', 'qcow2', '-F', 'qcow2', '-b', disk, image])
  return image
}

/** A machine with a screen, a serial console, and this image as its only disk. */
export function debianMachine(
  folder: string,
  image: string,
  { board, firmware, attachment }: { board: Board; firmware: Firmware; attachment: Attachment },
): MachineConfig {
  const uefi = firmware === 'OVMF' ? uefiFlash(folder, '_4M') : { drives: [] }
  return {
    memory: 1 << 30,
    machine: { type: board, options: { graphics: true } },
    firmwareFolders: [guestFiles.firmware],
    ...uefi,
    drives: [{ id: 'disk', file: image, format: 'qcow2' }, ...uefi.drives],
    plug: [{ driver: 'VGA', properties: {} }, ...disk(board, attachment)],
  }
}

function disk(board: Board, attachment: Attachment): DeviceOption[] {
  const properties = { drive: 'disk' }
  if (attachment === 'virtio') return [{ driver: 'virtio-blk-pci', properties }]
  // The controller of q35 is AHCI; pc needs one.
  if (attachment === 'ide' || board === 'q35') return [{ driver: 'ide-hd', properties }]
  return [
    { driver: 'ahci', id: 'sata', properties: {} },
    { driver: 'ide-hd', properties: { ...properties, bus: 'sata.0' } },
  ]
}

/** Runs a line in root's shell, and resolves to what it printed. */
export type Shell = (line: string) => Promise<string>

/** Waits for the login prompt on the serial console and logs in; resolves to what was shown, and to the shell. */
export async function logIn(vm: VirtualMachine): Promise<{ shown: string; shell: Shell }> {
  const shown = await vm.expect(/Debian GNU\/Linux[^]*guest login: $/, patience)
  vm.type('root\n')
  await vm.expect(rootPrompt, patience)
  const shell: Shell = async (line) => {
    vm.type(`${line}\n`)
    const seen = (await vm.expect(rootPrompt, patience)).replaceAll('\r', '')
    return seen.slice(seen.indexOf('\n') + 1, seen.lastIndexOf('\n') + 1)
  }
  // Editing of the line and colours are for people.
  await shell('bind "set enable-bracketed-paste off"')
  return { shown: withoutEscapes(shown), shell }
}
