// UEFI firmware in flash, and its shell on the serial console.
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import type { DriveConfig } from 'qemu-vmm'
import { withFolder } from './disk.ts'
import { fatDisk } from './fat.ts'
import { GuestProcess, command, guestFiles } from './guest.ts'
import { withoutEscapes } from './screen.ts'

/** Two images: `` for 2 MiB together, `_4M` for 4 MiB. */
export type FlashSize = '' | '_4M'

/** A variable store of its own in `folder`. */
export function variableStore(folder: string, size: FlashSize = ''): string {
  const path = join(folder, `vars${size}.fd`)
  copyFileSync(join(guestFiles.ovmf, `OVMF_VARS${size}.fd`), path)
  return path
}

/** The same for a machine of the library: its flash chips, and the drives that they are. */
export function uefiFlash(
  folder: string,
  size: FlashSize,
): { drives: DriveConfig[]; flash: string[] } {
  const code = join(guestFiles.ovmf, `OVMF_CODE${size}.fd`)
  return {
    drives: [
      { id: 'code', file: code, format: 'raw', readOnly: true },
      { id: 'vars', file: variableStore(folder, size), format: 'raw' },
    ],
    flash: ['code', 'vars'],
  }
}

/** Options of a machine that runs UEFI firmware with this variable store. */
export function uefiArguments(
  machine: string,
  vars: string,
  size: FlashSize = '',
  ...more: string[]
): string[] {
  const flash = 'if=pflash,format=raw'
  const folders = ['-L', guestFiles.ovmf, '-L', guestFiles.firmware]
  const code = `${flash},unit=0,readonly=on,file=OVMF_CODE${size}.fd`
  const store = `${flash},unit=1,file=${vars}`
  const drives = ['-drive', code, '-drive', store]
  // With a card the firmware tries to boot from the network for minutes first.
  const board = ['-M', machine, '-m', '256', '-nographic', '-nic', 'none']
  return [...board, ...folders, ...drives, ...more]
}

/** Starts the shell, without waiting for a script, and hands it to `work`. */
export async function withUefiShell(
  args: readonly string[],
  work: (shell: (line: string) => Promise<string>, guest: GuestProcess) => Promise<void>,
): Promise<void> {
  const guest = new GuestProcess(command, args)
  try {
    await guest.expect(/Press [^ ]*ESC[^ ]* in \d seconds/)
    guest.type('\u001b')
    const prompt = /Shell>[^>]*$/
    await guest.expect(prompt)
    await work(async (line) => {
      guest.type(`${line}\r`)
      // Its own line is drawn letter by letter, with a place for each.
      await guest.expect(/\r\n/)
      return withoutEscapes(await guest.expect(prompt)).replaceAll('\r', '')
    }, guest)
  } finally {
    await guest.kill()
  }
}

/** Checks that a disk is read in the shell, and that a variable set in one run is there in the next. */
export async function keepsVariables(
  t: ExecutionContext,
  machine: 'pc' | 'q35',
  size: FlashSize,
): Promise<void> {
  await withFolder(async (folder) => {
    const vars = variableStore(folder, size)
    const before = readFileSync(vars)
    const image = join(folder, 'disk')
    writeFileSync(image, fatDisk([{ name: 'hello.txt', data: Buffer.from('from the disk\r\n') }]))
    const kind = machine === 'q35' ? 'ide' : 'virtio'
    const drive = ['-drive', `file=${image},if=${kind},format=raw`]
    const guid = '11111111-2222-3333-4444-555555555555'
    await withUefiShell(uefiArguments(machine, vars, size, ...drive), async (shell, guest) => {
      t.regex(await shell('type fs0:\\hello.txt'), /from the disk/)
      await shell(`setvar kept -guid ${guid} -bs -nv =0x12345678`)
      guest.type('reset -s\r')
      t.deepEqual(await guest.end(), { code: 0, signal: null })
    })
    t.notDeepEqual(readFileSync(vars), before)
    await withUefiShell(uefiArguments(machine, vars, size), async (shell) => {
      t.regex(await shell(`setvar kept -guid ${guid}`), /78 ?56 ?34 ?12/)
    })
  })
}
