// A guest that does everything wrong: random accesses to every port, device register and hole of the address space.
import { type Assembler, Cond, Reg } from 'kvm-core/testing'
import { guestCode, multiboot } from './image.ts'

/** Offset 0 of the test's own device gives a random seed, offset 4 is told of accesses that are done. */
export const chaosBase = 0xd000_0000
/** Accesses between two reports. */
export const chaosBatch = 128

/** Where a board has its devices; other ports come up by chance. */
interface Places {
  /** At most 64. */
  readonly ports: readonly number[]
  /** Pages of registers, of nothing, and at the end of everything, 16. RAM is not among them. */
  readonly pages: readonly number[]
}

const ports = [
  0x00, 0x08, 0x0b, 0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x87, 0x92, 0xa0,
  0xa1, 0xb2, 0xc0, 0xd0, 0xd6, 0xe9, 0x1f0, 0x2e8, 0x2f8, 0x378, 0x37a, 0x3b0, 0x3c0, 0x3d4, 0x3e8,
  0x3f2, 0x3f4, 0x3f5, 0x3f7, 0x3f8, 0x3fa, 0x4d0, 0x501, 0x505, 0x510, 0x600, 0x604, 0x608, 0x700,
  0xafe0, 0xcf8, 0xcfb, 0xcfc, 0xcff, 0xfff8,
]
const pages = [
  0x000a_0000, 0x0100_0000, 0xd000_0000, 0xfec0_0000, 0xfed0_0000, 0xfee0_0000, 0xfee0_0000,
  0xff00_0000, 0xffff_f000,
  // Three virtio devices: common, device and notify registers of the first, common registers of the
  // others, and a table of MSI-X.
  0x8000_0000, 0x8000_2000, 0x8000_3000, 0x8000_4000, 0x8000_7000, 0x8000_8000, 0x8000_c000,
]

/** ACPI hot-plug of PCI and processors, SMBus, the watchdog, and cards in place of what only `pc` has. */
const portsOfQ35 = [
  0x00, 0x08, 0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x92, 0xa0, 0xa1, 0xb2, 0xc0,
  0xd0, 0x378, 0x3b4, 0x3c0, 0x3c4, 0x3ce, 0x3d4, 0x3f8, 0x402, 0x4d0, 0x505, 0x510, 0x514, 0x600,
  0x604, 0x608, 0x620, 0x628, 0x630, 0x634, 0x660, 0x664, 0x668, 0x700, 0x1ce, 0x1cf, 0xcc0, 0xcc4,
  0xcc8, 0xccc, 0xcd0, 0xcd4, 0xcd8, 0xcdc, 0xce0, 0xcf8, 0xcfb, 0xcfc, 0xcff, 0xc000, 0xc037,
  0xc100, 0xc200, 0xc240, 0xc280, 0xc2e0, 0xc2e4, 0xc300,
]
/**
 * Configuration space of the hub, a port, the LPC bridge and what is in the port; the chip configuration; registers of the
 * cards that the test plugs in: virtio, e1000, e1000e, virtio, VGA, rtl8139 and AHCI.
 */
const pagesOfQ35 = [
  0x000a_0000, 0xb000_0000, 0xb000_8000, 0xb00f_8000, 0xb010_0000, 0xfec0_0000, 0xfed0_0000,
  0xfed1_f000, 0xfee0_0000, 0xc100_0000, 0xc140_0000, 0xc142_0000, 0xc146_0000, 0xc146_a000,
  0xc146_b000, 0xc146_f000,
]
const places: Readonly<Record<'pc' | 'q35', Places>> = {
  pc: { ports, pages },
  q35: { ports: portsOfQ35, pages: pagesOfQ35 },
}

/** What is done at the port in DX, with the value in EAX. */
const portAccesses = [
  [0xec], // in al, dx
  [0xee], // out dx, al
  [0x66, 0xed], // in ax, dx
  [0x66, 0xef], // out dx, ax
  [0xed], // in eax, dx
  [0xef], // out dx, eax
  [0xb9, 5, 0, 0, 0, 0xf3, 0x6c], // mov ecx, 5; rep insb
  [0xb9, 3, 0, 0, 0, 0xf3, 0x6f], // mov ecx, 3; rep outsd
]
/** What is done at the address in EDX, with the value in EAX. */
const memoryAccesses = [
  [0x8a, 0x02], // mov al, [edx]
  [0x88, 0x02], // mov [edx], al
  [0x66, 0x8b, 0x02], // mov ax, [edx]
  [0x66, 0x89, 0x02], // mov [edx], ax
  [0x8b, 0x02], // mov eax, [edx]
  [0x89, 0x02], // mov [edx], eax
  [0x31, 0x02], // xor [edx], eax
  [0xf0, 0x0f, 0xc1, 0x02], // lock xadd [edx], eax
]

/** EBP goes on to the next of a xorshift sequence, which is left in EAX too. */
function defineNext(code: Assembler): void {
  code.label('next')
  for (const [shift, by] of [
    [0xe0, 13],
    [0xe8, 17],
    [0xe0, 5],
  ] as const) {
    code.db(0x89, 0xe8, 0xc1, shift, by, 0x31, 0xc5) // mov eax, ebp; shl/shr eax, by; xor ebp, eax
  }
  code.db(0x89, 0xe8).ret() // mov eax, ebp
}

/** Jumps to one of eight pieces of code by bits 13 to 15 of EBX. */
function oneOf(code: Assembler, name: string, pieces: readonly (readonly number[])[]): void {
  code.movLabel(Reg.di, name)
  code.db(0x89, 0xd9, 0xc1, 0xe9, 13, 0x83, 0xe1, 7) // mov ecx, ebx; shr ecx, 13; and ecx, 7
  code.db(0xc1, 0xe1, 4, 0x01, 0xcf) // shl ecx, 4; add edi, ecx
  code.db(0x89, 0xf9, 0xbf).value(0x30_0000, 4) // mov ecx, edi; mov edi, 0x300000: for ins
  code.db(0xff, 0xe1) // jmp ecx
  code.align(16).label(name)
  for (const piece of pieces)
    code
      .db(...piece)
      .db(0xc3)
      .align(16)
}

/** The image. It never ends by itself, but what it does to the machine may end or reset it. */
export function chaosImage(board: 'pc' | 'q35'): Uint8Array {
  const { ports: chosen, pages: known } = places[board]
  const code = guestCode()
  code.cli().db(0xbc).value(0x20_0000, 4) // mov esp, 0x200000
  code.db(0x8b, 0x2d).value(chaosBase, 4) // mov ebp, [seed]
  code.label('batch').db(0x68).value(chaosBatch, 4) // push batch
  code.label('again').call('next').db(0x89, 0xc3) // mov ebx, eax
  code.db(0xbe).value(0x30_0000, 4) // mov esi, 0x300000: for outs
  code.db(0xf6, 0xc3, 1).jcc(Cond.nz, 'memory').call('port').jmp('done') // test bl, 1
  code.label('memory').call('register')
  code.label('done').db(0xff, 0x0c, 0x24).jcc(Cond.nz, 'again').popReg(Reg.ax) // dec dword [esp]
  code
    .movImm(Reg.ax, chaosBatch)
    .store(4, chaosBase + 4)
    .jmp('batch')
  defineNext(code)

  code.label('port').call('next')
  code.db(0x89, 0xda, 0xc1, 0xea, 16) // mov edx, ebx; shr edx, 16: any port
  code.db(0xf7, 0xc3).value(0x600, 4).jcc(Cond.z, 'chosen') // test ebx, 0x600: one time in four
  code.db(0x83, 0xe2, 63, 0x8b, 0x14, 0x95) // and edx, 63; mov edx, [ports + edx * 4]
  code.value(tablesAt, 4)
  code.label('chosen')
  oneOf(code, 'ports', portAccesses)

  code.label('register').call('next')
  code.db(0x89, 0xda, 0xc1, 0xea, 16, 0x83, 0xe2, 15) // mov edx, ebx; shr edx, 16; and edx, 15
  code.db(0x8b, 0x14, 0x95).value(tablesAt + 256, 4) // mov edx, [pages + edx * 4]
  code.db(0x89, 0xd9, 0xc1, 0xe9, 20) // mov ecx, ebx; shr ecx, 20: any offset
  code.db(0xf6, 0xc3, 6).jcc(Cond.z, 'anywhere') // test bl, 6
  code.db(0x81, 0xe1).value(0xff0, 4) // and ecx, 0xff0: three times in four a register
  code.label('anywhere').db(0x01, 0xca) // add edx, ecx
  oneOf(code, 'registers', memoryAccesses)

  while (code.here < tablesAt) code.db(0)
  for (let i = 0; i < 64; i++) code.value(chosen[i % chosen.length] ?? 0, 4)
  for (const page of known) code.value(page, 4)
  return multiboot(code.build())
}

const tablesAt = 0x10_0800
