// Every kind of kernel that direct boot knows.
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import test from 'ava'
import { Cond, Reg } from 'kvm-core/testing'
import { VirtualMachine, VmmError } from 'qemu-vmm'
import { bootArguments, bootTimeoutMs, guestFiles, withGuest } from '../src/guest.ts'
import { guestCode, multiboot, powerOff, printAl, printText, withImage } from '../src/image.ts'

test.serial('an uncompressed kernel boots through PVH', async (t) => {
  await withGuest(bootArguments({ kernel: guestFiles.vmlinux, append: 'pvh=1' }), async (guest) => {
    t.is(await guest.shell('cat /proc/cmdline'), 'console=ttyS0 quiet pvh=1\n')
    t.regex(await guest.shell('dmesg | grep -c "Hypervisor detected: KVM"'), /^1\n$/)
    t.regex(await guest.shell('dmesg | grep -i "tables\\|ACPI: RSDP"'), /RSDP/)
    guest.type('poweroff -f\n')
    t.is((await guest.end()).code, 0)
  })
})

test.serial('a bzImage without a 64-bit entry boots through the 32-bit one', async (t) => {
  const image = readFileSync(guestFiles.kernel)
  // XLF_KERNEL_64 of xloadflags (Linux Documentation/arch/x86/boot.rst): as if there were none.
  image[0x236] = (image[0x236] ?? 0) & ~1
  await withImage(image, (kernel) =>
    withGuest(bootArguments({ kernel }), async (guest) => {
      t.is(await guest.shell('uname -m'), 'x86_64\n')
    }),
  )
})

test.serial('a multiboot guest gets its magic, its command line and its memory', async (t) => {
  const code = guestCode()
  // The magic is in EAX, the information structure in EBX.
  code.db(0x3d).value(0x2bad_b002, 4).jcc(Cond.z, 'good')
  code.db(0x0f, 0x0b)
  code.label('good')
  code.db(0x8b, 0x73, 16) // mov esi, [ebx + 16]: the command line
  code.label('next').db(0x8a, 0x06, 0x84, 0xc0).jcc(Cond.z, 'memory') // mov al, [esi]; test al, al
  printAl(code, 'wait').db(0x46).jmp('next') // inc esi
  code.label('memory')
  printText(code, '\n')
  // Upper memory in KiB: 63 MiB are 0xfc00.
  code.db(0x81, 0x7b, 8).value(0xfc00, 4).jcc(Cond.z, 'right') // cmp dword [ebx + 8], 0xfc00
  code.db(0x0f, 0x0b)
  printText(code.label('right'), 'memory\n')
  powerOff(code)
  await withImage(multiboot(code.build()), async (kernel) => {
    const vm = new VirtualMachine({ memory: 64 << 20, kernel, append: 'one two' })
    await vm.start()
    const text = await vm.expect(/memory\n/, { timeoutMs: bootTimeoutMs })
    t.regex(text, /kernel one two\nmemory\n$/)
    t.like(await vm.exited, { reason: 'shutdown', guest: true, code: 0 })
  })
})

test.serial('a guest sees the power button and its interrupt', async (t) => {
  // ACPI mode is asked for at the SMI command port, as the FADT says.
  const code = guestCode()
    .movImm8(Reg.ax, 0xf1)
    .outImm8(0xb2)
    .movImm(Reg.dx, 0x602)
    .movImm(Reg.ax, 0x100)
    .db(0x66, 0xef) // PWRBTN_EN
  printText(code, 'ready')
  code.movImm(Reg.dx, 0x600).label('poll').db(0x66, 0xed, 0xf6, 0xc4, 1).jcc(Cond.z, 'poll')
  // The request register of the second PIC has the SCI, interrupt 9.
  code.movImm8(Reg.ax, 0x0a).outImm8(0xa0).inImm8(0xa0).db(0xa8, 2).jcc(Cond.nz, 'raised')
  code.db(0x0f, 0x0b)
  powerOff(code.label('raised'))
  await withImage(multiboot(code.build()), async (kernel) => {
    const vm = await VirtualMachine.start({ memory: 16 << 20, kernel, rebootAction: 'shutdown' })
    await vm.expect('ready', { timeoutMs: bootTimeoutMs })
    vm.powerdown()
    t.like(await vm.exited, { reason: 'shutdown', guest: true, code: 0 })
  })
})

test.serial(
  'kernels and RAM disks that cannot be booted are refused with the reason',
  async (t) => {
    const refused = async (
      config: { kernel: string; initrd?: string },
      memory = 128,
    ): Promise<string> => {
      const vm = new VirtualMachine({ memory: memory << 20, ...config })
      const error = await t.throwsAsync(vm.start(), { instanceOf: VmmError })
      await vm.quit()
      return `${error.code} ${error.message}`
    }
    await withImage(Buffer.from('#!/bin/sh\necho no kernel\n'), async (path) => {
      t.regex(await refused({ kernel: path }), /kernel/)
      writeFileSync(path, '')
      t.regex(await refused({ kernel: path }), /empty|bytes/)
      writeFileSync(path, readFileSync(guestFiles.kernel))
      truncateSync(path, 100_000)
      t.regex(await refused({ kernel: path }), /truncated|bytes/)
      truncateSync(path, 600)
      t.regex(await refused({ kernel: path }), /kernel/)
    })
    t.regex(await refused({ kernel: '/tmp' }), /director/)
    t.regex(await refused({ kernel: '/nowhere/kernel' }), /\/nowhere\/kernel/)
    const { kernel, initrd } = guestFiles
    t.regex(await refused({ kernel, initrd: '/tmp' }), /director/)
    t.regex(await refused({ kernel, initrd: guestFiles.vmlinux }, 64), /fit|memory/i)
    t.regex(await refused({ kernel, initrd }, 16), /fit|memory|MiB/i)
  },
)
