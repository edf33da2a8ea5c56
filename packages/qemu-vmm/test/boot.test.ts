import { mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'

import test from 'ava'

import { openBootImage } from '../src/boot/open.ts'
import type { BootConfig } from '../src/boot/open.ts'
import type { BootEntry } from '../src/boot/loader.ts'
import type { VmmError } from '../src/errors.ts'
import { entryRegs, entrySregs } from '../src/machine/entry-state.ts'
import { SeededEntropy } from '../src/machine/entropy.ts'
import { createMemoryMap } from '../src/machine/memory-map.ts'
import { FakeMemory } from './support/fakes.ts'
import { bzImage, elf, multiboot, scratchFolder, writeImage } from './support/images.ts'

const MIB = 1 << 20
const RSDP = 0xf_0040
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

let serial = 0
function file(bytes: Uint8Array | string): string {
  return writeImage(folder, `image-${serial++}`, bytes)
}

function boot(
  config: BootConfig,
  memoryMib = 128,
): { entry: BootEntry; memory: FakeMemory; kind: string } {
  const memory = new FakeMemory()
  const image = openBootImage(config)
  try {
    const entry = image.load({
      memory,
      map: createMemoryMap(memoryMib * MIB),
      rsdpGpa: RSDP,
      hasTextScreen: false,
      entropy: new SeededEntropy(1),
    })
    return { entry, memory, kind: image.kind }
  } finally {
    image.close()
  }
}

function refusal(config: BootConfig, memoryMib?: number): VmmError {
  try {
    boot(config, memoryMib)
  } catch (error) {
    return error as VmmError
  }
  throw new Error('the image was accepted')
}

test('bzImage: a file that ends within the last 16 bytes that its header counts is whole', (t) => {
  const { memory } = boot({ kernel: file(bzImage().slice(0, -15)) })
  t.deepEqual(memory.bytes(0x100_0000, 4), Uint8Array.of(0, 1, 2, 3))
})

test('bzImage: enters 64-bit kernels in long mode with zero page, e820 and identity map', (t) => {
  const { entry, memory, kind } = boot({ kernel: file(bzImage()), append: 'console=ttyS0' })
  t.is(kind, 'bzImage')
  t.is(entry.mode, 'long')
  t.is(entry.rip, 0x100_0200)
  t.deepEqual(memory.bytes(0x100_0000, 4), Uint8Array.of(0, 1, 2, 3))
  const params = memory.view(entry.regs.rsi!, 4096)
  t.is(params.getUint32(0x202, true), 0x5372_6448)
  t.is(params.getUint8(0x210), 0xff)
  t.is(params.getUint32(0x214, true), 0x100_0000)
  t.is(memory.text(params.getUint32(0x228, true)), 'console=ttyS0')
  t.is(params.getUint32(0x070, true), RSDP)
  t.is(params.getUint32(0x218, true), 0, 'no initrd')
  const entries = Array.from({ length: params.getUint8(0x1e8) }, (_, i) => [
    params.getUint32(0x2d0 + i * 20, true),
    params.getUint32(0x2d8 + i * 20, true),
    params.getUint32(0x2e0 + i * 20, true),
  ])
  t.deepEqual(entries, [
    [0, 0x9_fc00, 1],
    [0x9_fc00, 0x400, 2],
    [0xf_0000, 0x1_0000, 2],
    [MIB, 127 * MIB, 1],
  ])
  const seed = memory.view(params.getUint32(0x250, true), 48)
  t.is(seed.getUint32(8, true), 9)
  t.is(seed.getUint32(12, true), 32)
  t.true(memory.bytes(params.getUint32(0x250, true) + 16, 32).some((b) => b !== 0))

  const pml4 = memory.view(entry.pageTableGpa!, 8).getUint32(0, true)
  const pdpt = memory.view(pml4 & ~0xfff, 32)
  t.is(pml4 & 3, 3)
  const lastDirectory = memory.view(pdpt.getUint32(24, true) & ~0xfff, 4096)
  t.is(lastDirectory.getUint32(511 * 8, true), 0xffe0_0083, 'the last 2 MiB below 4 GiB')
})

test('bzImage: the CPU state is what the boot protocol wants', (t) => {
  const { entry } = boot({ kernel: file(bzImage()) })
  const sregs = new DataView(entrySregs(new Uint8Array(312), entry).buffer)
  t.is(sregs.getUint16(12, true), 0x10, 'CS')
  t.is(sregs.getUint8(19), 1, 'CS.L')
  t.is(sregs.getUint16(24 + 12, true), 0x18, 'DS')
  t.is(sregs.getBigUint64(224, true), 0x8000_0011n, 'CR0')
  t.is(sregs.getBigUint64(248, true), 0x20n, 'CR4')
  t.is(sregs.getBigUint64(264, true), 0x500n, 'EFER')
  const regs = entryRegs(entry)
  t.is(regs[4], BigInt(entry.regs.rsi!))
  t.is(regs[17], 2n, 'interrupts are off')
})

test('bzImage: 32-bit kernels are entered in protected mode', (t) => {
  const { entry } = boot({ kernel: file(bzImage({ xloadflags: 0 })) })
  t.is(entry.mode, 'protected')
  t.is(entry.rip, 0x100_0000)
  const sregs = new DataView(entrySregs(new Uint8Array(312), entry).buffer)
  t.is(sregs.getBigUint64(224, true), 0x11n)
  t.is(sregs.getBigUint64(264, true), 0n)
  t.is(sregs.getUint8(17), 1, 'CS.D')
})

test('bzImage: relocatable kernels go lower when RAM is short, others are refused', (t) => {
  const low = boot({ kernel: file(bzImage({ prefGpa: 0x800_0000 })) }, 32)
  t.is(low.entry.rip, 0x20_0200)
  const error = refusal({ kernel: file(bzImage({ prefGpa: 0x800_0000, relocatable: false })) }, 32)
  t.is(error.code, 'E_KERNEL_TOO_LARGE')
  t.regex(error.message, /at least 129 MiB/)
  const old = boot({ kernel: file(bzImage({ version: 0x0204, xloadflags: 0 })) }, 32)
  t.is(old.entry.rip, 0x10_0000)
})

test('initrd: lies at the top, below the limit of the kernel, page-aligned', (t) => {
  const initrd = file(new Uint8Array(5000).fill(7))
  const high = boot({ kernel: file(bzImage()), initrd })
  const params = high.memory.view(high.entry.regs.rsi!, 4096)
  t.is(params.getUint32(0x218, true), 128 * MIB - 8192)
  t.is(params.getUint32(0x21c, true), 5000)
  t.deepEqual(high.memory.bytes(128 * MIB - 8192 + 4999, 2), Uint8Array.of(7, 0))
  const low = boot({ kernel: file(bzImage({ initrdMax: 0x3ff_ffff })), initrd })
  t.is(low.memory.view(low.entry.regs.rsi!, 4096).getUint32(0x218, true), 64 * MIB - 8192)
})

test('initrd: one that does not fit is refused with the numbers', (t) => {
  const initrd = file(new Uint8Array(20 * MIB))
  const error = refusal({ kernel: file(bzImage()), initrd }, 32)
  t.is(error.code, 'E_INITRD_TOO_LARGE')
  t.regex(error.message, /20971520 bytes.*15728640 bytes.*at least 38 MiB/s)
  const capped = refusal({ kernel: file(bzImage({ initrdMax: 0x1ff_ffff })), initrd }, 128)
  t.regex(capped.message, /cannot take it at a higher address/)
})

test('command line: refused beyond what the kernel takes', (t) => {
  const append = 'x'.repeat(300)
  t.is(refusal({ kernel: file(bzImage({ cmdlineMax: 256 })), append }).code, 'E_CMDLINE_TOO_LONG')
  t.is(refusal({ kernel: file(bzImage()), append: 'a\0b' }).code, 'E_CONFIG')
})

test('bad kernels: each has its own message', (t) => {
  const directory = join(folder, 'directory')
  mkdirSync(directory)
  const whole = bzImage()
  const cases: [string, string, RegExp][] = [
    [file('#!/bin/sh\necho hello\n'), 'E_IMAGE_FORMAT', /is a text file/],
    [file(whole.slice(0, whole.length - 100)), 'E_IMAGE_TRUNCATED', /has 9116 bytes.*says 9216/],
    [file(whole.slice(0, -16)), 'E_IMAGE_TRUNCATED', /has 9200 bytes/],
    [file(whole.slice(0, 1000)), 'E_IMAGE_TRUNCATED', /truncated/],
    [file(whole.slice(0, 600)), 'E_IMAGE_TRUNCATED', /truncated/],
    [file(new Uint8Array(0)), 'E_FILE', /is empty/],
    [directory, 'E_FILE', /is a directory/],
    [join(folder, 'missing'), 'E_FILE', /no such file/],
    ['/dev/null', 'E_FILE', /not a regular file/],
    [file(Uint8Array.of(0x1f, 0x8b, 8, 0, 0)), 'E_IMAGE_FORMAT', /gzip/],
    [file(new Uint8Array(100_000)), 'E_IMAGE_FORMAT', /unknown content/],
    [file(bzImage({ version: 0x0201 })), 'E_IMAGE_FORMAT', /protocol 2.1/],
    [file(bzImage({ loadflags: 0 })), 'E_IMAGE_FORMAT', /zImage/],
    [file(bzImage({ alignment: 3 })), 'E_IMAGE_FORMAT', /alignment of 3/],
  ]
  for (const [kernel, code, message] of cases) {
    const error = refusal({ kernel })
    t.is(String(error.code), code, error.message)
    t.regex(error.message, message)
  }
  t.is(refusal({ kernel: file(whole), initrd: join(folder, 'missing') }).code, 'E_FILE')
})

test('every truncation of an image is refused or loads: nothing else is thrown', (t) => {
  for (const whole of [bzImage(), elf({ pvhEntry: 0x10_0000 }), multiboot(new Uint8Array(600))]) {
    for (let length = 1; length < whole.length; length += 37) {
      const kernel = file(whole.slice(0, length))
      const image = ((): unknown => {
        try {
          return boot({ kernel })
        } catch (error) {
          return (error as VmmError).code
        }
      })()
      t.true(image !== undefined && (typeof image !== 'string' || image.startsWith('E_')))
      rmSync(kernel)
    }
  }
})

test('pvh: enters at the note with start info, modules and memory map', (t) => {
  for (const is64 of [true, false]) {
    const { entry, memory, kind } = boot({
      kernel: file(elf({ is64, pvhEntry: 0x10_0040, memoryBytes: 0x1000 })),
      initrd: file('initrd!'),
      append: 'quiet',
    })
    t.is(kind, 'pvh')
    t.is(entry.mode, 'protected')
    t.is(entry.rip, 0x10_0040)
    t.deepEqual(memory.bytes(0x10_0000, 3), Uint8Array.of(0, 1, 2))
    const info = memory.view(entry.regs.rbx!, 56)
    t.is(info.getUint32(0, true), 0x336e_c578)
    t.is(info.getUint32(12, true), 1)
    const module = memory.view(info.getUint32(16, true), 32)
    t.is(memory.text(module.getUint32(0, true)), 'initrd!')
    t.is(module.getUint32(8, true), 7)
    t.is(memory.text(info.getUint32(24, true)), 'quiet')
    t.is(info.getUint32(32, true), RSDP)
    t.is(info.getUint32(48, true), 4)
    t.is(memory.view(info.getUint32(40, true) + 3 * 24, 24).getUint32(0, true), MIB)
  }
})

test('elf: refused without a PVH note, for another machine, outside RAM', (t) => {
  t.regex(refusal({ kernel: file(elf()) }).message, /without a PVH entry note/)
  t.regex(refusal({ kernel: file(elf({ machine: 183, pvhEntry: 1 })) }).message, /e_machine 183/)
  const high = refusal({ kernel: file(elf({ gpa: 0x2000_0000, pvhEntry: 1 })) })
  t.is(high.code, 'E_KERNEL_TOO_LARGE')
  const vga = refusal({ kernel: file(elf({ gpa: 0x9_f000, memoryBytes: 0x2000, pvhEntry: 1 })) })
  t.is(vga.code, 'E_KERNEL_TOO_LARGE')
})

test('multiboot: loads by address fields and passes modules, map and command line', (t) => {
  const code = Uint8Array.of(0xf4)
  const modules = [file('one'), file('two')]
  const { entry, memory, kind } = boot({
    kernel: file(multiboot(code)),
    initrd: `${modules[0]} a=1,${modules[1]}`,
    append: 'opt',
  })
  t.is(kind, 'multiboot')
  t.is(entry.regs.rax, 0x2bad_b002)
  t.is(entry.rip, 0x10_0020)
  t.is(memory.bytes(entry.rip, 1)[0], 0xf4)
  const info = memory.view(entry.regs.rbx!, 120)
  t.is(info.getUint32(4, true), 639)
  t.is(info.getUint32(8, true), 127 * 1024)
  t.regex(memory.text(info.getUint32(16, true)), / opt$/)
  t.is(info.getUint32(20, true), 2)
  const table = memory.view(info.getUint32(24, true), 32)
  t.is(memory.text(table.getUint32(0, true)), 'one')
  t.is(table.getUint32(4, true) - table.getUint32(0, true), 3)
  t.is(memory.text(table.getUint32(8, true)), `${modules[0]} a=1`)
  t.is(memory.text(table.getUint32(16, true)), 'two')
  t.is(table.getUint32(16, true) % 4096, 0)
  t.is(info.getUint32(44, true), 4 * 24)
  t.is(memory.view(info.getUint32(48, true), 24).getUint32(0, true), 20)
  t.is(memory.view(0x40e, 2).getUint16(0, true), 0x9fc0, 'the extended BIOS data area')
  t.is(memory.view(0x413, 2).getUint16(0, true), 639)
  t.is(memory.bytes(0x9_fc00, 1)[0], 1)
})

test('multiboot: ELF images, and what is refused', (t) => {
  const header = new DataView(new ArrayBuffer(512))
  header.setUint32(0, 0x1bad_b002, true)
  header.setUint32(8, -0x1bad_b002 >>> 0, true)
  const payload = new Uint8Array(header.buffer)
  const { entry } = boot({ kernel: file(elf({ is64: false, entry: 0x10_0010, payload })) })
  t.is(entry.rip, 0x10_0010)
  t.regex(refusal({ kernel: file(elf({ payload })) }).message, /64-bit multiboot/)
  const code = new Uint8Array(64)
  t.regex(refusal({ kernel: file(multiboot(code, 0x1_0004)) }).message, /a video mode/)
  t.regex(refusal({ kernel: file(multiboot(code, 0x1_0008)) }).message, /features 0x8/)
  t.regex(refusal({ kernel: file(multiboot(code, 0)) }).message, /neither addresses nor an ELF/)
  const module = file(new Uint8Array(40 * MIB))
  t.is(statSync(module).size, 40 * MIB)
  const error = refusal({ kernel: file(multiboot(code)), initrd: module }, 32)
  t.is(error.code, 'E_INITRD_TOO_LARGE')
})
