// Kernels that firmware starts, and what the command line tells it beside.
import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import { withFolder } from '../src/disk.ts'
import { bootTimeoutMs, guestFiles, prompt, withMachine } from '../src/guest.ts'
import type { GuestProcess } from '../src/guest.ts'
import { uefiArguments, variableStore } from '../src/uefi.ts'

const LINUX = ['-kernel', guestFiles.kernel, '-initrd', guestFiles.initrd]
/** The ROM by which a BIOS starts kernels comes with QEMU. */
const hasKernelRom = existsSync('/usr/share/qemu/linuxboot_dma.bin')

async function shell(guest: GuestProcess, line: string): Promise<string> {
  guest.type(`${line}\n`)
  await guest.expect(/\r\n/)
  return await guest.expect(prompt)
}

test.serial('UEFI firmware starts a kernel, with its initrd and command line', async (t) => {
  await withFolder(async (folder) => {
    const linux = [...LINUX, '-append', 'console=ttyS0 spoken=by-firmware']
    const args = uefiArguments('q35', variableStore(folder, '_4M'), '_4M', ...linux)
    await withMachine(args, async (guest) => {
      await guest.expect(prompt, bootTimeoutMs)
      t.regex(await shell(guest, 'ls /sys/firmware'), /\befi\b/)
      t.regex(await shell(guest, 'cat /proc/cmdline'), /spoken=by-firmware/)
      guest.type('poweroff -f\n')
      t.deepEqual(await guest.end(), { code: 0, signal: null })
    })
  })
})

const withRom = hasKernelRom ? test.serial : test.serial.skip

withRom('a BIOS starts a kernel, and guests see the tables of the command line', async (t) => {
  await withFolder(async (folder) => {
    const table = join(folder, 'table')
    writeFileSync(table, 'what the table says')
    const tables = ['-acpitable', `sig=TEST,data=${table}`, '-smbios', 'type=1,serial=SN-42']
    const bios = ['-bios', 'bios-256k.bin', '-L', guestFiles.firmware, '-net', 'none']
    const linux = [...LINUX, '-append', 'console=ttyS0']
    const args = ['-m', '128', '-nographic', ...bios, ...linux, ...tables]
    await withMachine(args, async (guest) => {
      await guest.expect(/SeaBIOS \(version/)
      await guest.expect(prompt, bootTimeoutMs)
      t.regex(
        await shell(guest, 'tail -c 19 /sys/firmware/acpi/tables/TEST'),
        /what the table says/,
      )
      t.regex(await shell(guest, 'cat /sys/class/dmi/id/product_serial'), /SN-42/)
      guest.type('poweroff -f\n')
      t.deepEqual(await guest.end(), { code: 0, signal: null })
    })
  })
})

for (const machine of ['pc', 'q35']) {
  test.serial(`${machine} works without ACPI, and has SMBIOS`, async (t) => {
    const board = ['-M', `${machine},acpi=off`, '-smbios', 'type=2,serial=BOARD-7']
    const args = [...board, '-m', '128', '-nographic', '-no-reboot']
    const disk = ['-drive', `file=${guestFiles.bootDisk},if=virtio,snapshot=on`]
    const linux = ['-kernel', guestFiles.kernel, '-initrd', guestFiles.diskInitrd]
    await withMachine([...args, ...disk, ...linux, '-append', 'console=ttyS0'], async (guest) => {
      await guest.expect(prompt, bootTimeoutMs)
      t.notRegex(await shell(guest, 'ls /sys/firmware'), /\bacpi\b/)
      t.regex(await shell(guest, 'cat /sys/class/dmi/id/board_serial'), /BOARD-7/)
      t.regex(await shell(guest, 'dd if=/dev/vda of=/dev/null bs=1M count=4'), /4\+0 records in/)
      guest.type('reboot -f\n')
      t.deepEqual(await guest.end(), { code: 0, signal: null })
    })
  })
}
