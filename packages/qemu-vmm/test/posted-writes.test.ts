// Writes for which the guest does not wait: to the text screen, on a machine that runs.
import { rmSync } from 'node:fs'

import test from 'ava'
import { VirtualMachine } from 'qemu-vmm'
import type { MachineConfig } from 'qemu-vmm'

import { GuestCode } from './support/guest-code.ts'
import { multiboot, scratchFolder, writeImage } from './support/images.ts'

const SCREEN = 0xb_8000
const CELLS = 80 * 25
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

const vga = { driver: 'VGA', properties: {} }

let serial = 0
function guest(code: GuestCode): MachineConfig {
  const kernel = writeImage(folder, `guest-${serial++}`, multiboot(code.bytes()))
  return { memory: 16 << 20, accel: 'tcg', kernel, log: () => {}, plug: [vga] }
}

const dword = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff)

test('writes of every size are on the screen, in order, before the next access', async (t) => {
  const code = new GuestCode()
  // mov edi, SCREEN; mov ecx, CELLS; mov ax, 'x'; rep stosw: more than there is room for at once
  code.raw(0xbf, ...dword(SCREEN), 0xb9, ...dword(CELLS), 0x66, 0xb8, 0x78, 0x07, 0xf3, 0x66, 0xab)
  // mov byte [SCREEN], '1'; mov word [SCREEN + 2], '2'; mov dword [SCREEN + 4], '34'
  code.raw(0xc6, 0x05, ...dword(SCREEN), 0x31)
  code.raw(0x66, 0xc7, 0x05, ...dword(SCREEN + 2), 0x32, 0x07)
  code.raw(0xc7, 0x05, ...dword(SCREEN + 4), 0x33, 0x07, 0x34, 0xf0)
  // mov esp, 0x9000; push '78'; push '56'; movq mm0, [esp]; movq [SCREEN + 8], mm0: bits that a double has no room for
  code.raw(0xbc, ...dword(0x9000), 0x68, 0x37, 0x07, 0x38, 0xf0, 0x68, 0x35, 0x07, 0x36, 0x07)
  code.raw(0x0f, 0x6f, 0x04, 0x24, 0x0f, 0x7f, 0x05, ...dword(SCREEN + 8))
  await using vm = await VirtualMachine.start(guest(code.print('done\n').halt()))
  await vm.expect('done')
  const lines = (await vm.screen()).split('\n')
  t.is(lines[0], `12345678${'x'.repeat(72)}`)
  t.is(lines[24], 'x'.repeat(80))
})

test('a machine that stands has taken them all', async (t) => {
  // xor ebx, ebx; mov [SCREEN], bl
  const code = new GuestCode().raw(0x31, 0xdb, 0x88, 0x1d, ...dword(SCREEN)).print('go\n')
  const loop = code.here
  // inc bl; mov [SCREEN], bl
  code.raw(0xfe, 0xc3, 0x88, 0x1d, ...dword(SCREEN)).jump(loop)
  await using vm = await VirtualMachine.start(guest(code))
  await vm.expect('go')
  for (let round = 0; round < 20; round++) {
    await vm.pause()
    const [cpu] = await vm.cpus()
    const next = Number(cpu!.regs[1]! & 0xffn)
    const screen = await vm.screenState()
    const shown = screen.kind === 'text' ? screen.cells[0]! : -1
    t.true([next, (next - 1) & 0xff].includes(shown), `${shown} on the screen, ${next} in BL`)
    await vm.resume()
  }
})
