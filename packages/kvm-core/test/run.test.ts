import test from 'ava'

import { Cap, DEFER, ExitReason, KVM_RUN, KvmError, MpState, attachVm, open } from '../src/index.ts'
import { type Assembler, Reg } from '../src/testing/index.ts'
import { CODE, guest, kvm } from './guest.ts'

const errno = (errno: string): { instanceOf: typeof KvmError; code: string } => ({
  instanceOf: KvmError,
  code: errno,
})

test('engines and capabilities are KVM-like', (t) => {
  t.is(kvm.apiVersion, 12)
  t.is(kvm.engine, 'soft')
  t.true(['soft', 'host'].includes(open().engine))
  t.is(kvm.checkExtension(Cap.Irqfd), 1)
  t.is(kvm.checkExtension(Cap.MaxVcpus), 256)
  t.is(kvm.checkExtension(Cap.X86Smm), 1)
  t.throws(() => open({ engine: 'soft', device: '/dev/kvm' }), errno('EINVAL'))
  t.throws(() => kvm.createVm(1), errno('EINVAL'))
  t.throws(() => kvm.cpuidForModel('pentium9'), errno('EINVAL'))
  t.true(kvm.cpuidForModel('max').length > 5)
  t.true(kvm.getMsrIndexList().includes(0x10))
})

test('port accesses exit with KVM fields and take their answer from the page', async (t) => {
  const code = (a: Assembler): Assembler =>
    a.movImm8(Reg.ax, 0x55).outImm8(0x10).inImm8(0x20).store(1, 0x2000).hlt()
  const { vm, vcpu, run } = guest(t, 16, code)
  t.is(vcpu.runSync(), ExitReason.Io)
  t.is(run.getUint32(KVM_RUN.exitReason, true), ExitReason.Io)
  t.is(run.getUint8(KVM_RUN.ioDirection), 1)
  t.is(run.getUint8(KVM_RUN.ioSize), 1)
  t.is(run.getUint16(KVM_RUN.ioPort, true), 0x10)
  t.is(run.getUint32(KVM_RUN.ioCount, true), 1)
  const data = Number(run.getBigUint64(KVM_RUN.ioDataOffset, true))
  t.is(run.getUint8(data), 0x55)
  t.is(vcpu.runSync(), ExitReason.Io)
  t.is(run.getUint8(KVM_RUN.ioDirection), 0)
  run.setUint8(data, 0xa7)
  t.is(vcpu.runSync(), ExitReason.Hlt, 'without an irqchip HLT exits')
  t.is(vm.memory.view(0x2000, 1).getUint8(0), 0xa7)
  t.is(vcpu.stats().exits, 3)
  t.is(vcpu.instructions(), 5)
})

test('registers set while an exit waits do not repeat its access, a new RIP gives it up', (t) => {
  const code = (a: Assembler): Assembler =>
    a.movImm8(Reg.ax, 1).outImm8(0x10).outImm8(0x11).hlt().label('end').outImm8(0x12).hlt()
  const port = (run: DataView): number => run.getUint16(KVM_RUN.ioPort, true)
  const { vcpu, run } = guest(t, 16, code)
  t.is(vcpu.runSync(), ExitReason.Io)
  t.is(port(run), 0x10)
  const regs = vcpu.getRegs()
  regs[1] = 0x1234n
  vcpu.setRegs(regs)
  t.is(vcpu.runSync(), ExitReason.Io)
  t.is(port(run), 0x11)
  t.is(vcpu.getRegs()[1], 0x1234n)
  const away = vcpu.getRegs()
  away[16] = BigInt(CODE + 7)
  vcpu.setRegs(away)
  t.is(vcpu.runSync(), ExitReason.Io)
  t.is(port(run), 0x12)
})

test('RAM takes no option that it would ignore', async (t) => {
  await using vm = kvm.createVm()
  const options = { size: 4096, fallback: 'v8-shared' }
  t.throws(() => vm.createRam(options), { message: /no option 'fallback'/ })
})

test('an instruction with several accesses exits once per access', async (t) => {
  // inc dword [0x200000]; add eax, [0x0ffffe]: two bytes of RAM and two outside
  const code = (a: Assembler): Assembler =>
    a.db(0xff, 0x05, 0x00, 0x00, 0x20, 0x00).db(0x03, 0x05, 0xfe, 0xff, 0x0f, 0x00).hlt()
  const { vm, vcpu, run } = guest(t, 32, code)
  vm.memory.write(0xffffe, Uint8Array.of(0x34, 0x12))
  t.is(vcpu.runSync(), ExitReason.Mmio)
  t.is(run.getBigUint64(KVM_RUN.mmioPhysAddr, true), 0x20_0000n)
  t.is(run.getUint32(KVM_RUN.mmioLen, true), 4)
  t.is(run.getUint8(KVM_RUN.mmioIsWrite), 0)
  run.setUint32(KVM_RUN.mmioData, 0x41, true)
  t.is(vcpu.runSync(), ExitReason.Mmio)
  t.is(run.getUint8(KVM_RUN.mmioIsWrite), 1)
  t.is(run.getUint32(KVM_RUN.mmioData, true), 0x42)
  // The part outside RAM comes in one piece or in several.
  const outside = Uint8Array.of(0x78, 0x56)
  for (let done = 0; done < 2;) {
    t.is(vcpu.runSync(), ExitReason.Mmio)
    t.is(run.getBigUint64(KVM_RUN.mmioPhysAddr, true), 0x10_0000n + BigInt(done))
    const len = run.getUint32(KVM_RUN.mmioLen, true)
    new Uint8Array(vcpu.run).set(outside.subarray(done, done + len), KVM_RUN.mmioData)
    done += len
  }
  t.is(vcpu.runSync(), ExitReason.Hlt)
  t.is(vcpu.getRegs()[0], 0x5678_1234n)
})

test('kicks, immediate_exit, time-outs and instruction counts end a run', async (t) => {
  const { vcpu, run } = guest(t, 16, (a) => a.label('x').incReg(Reg.bx).jmp('x'), {
    irqchip: true,
  })
  vcpu.stopAtInstruction(1001)
  t.is(vcpu.runSync(), ExitReason.CountReached)
  t.is(vcpu.instructions(), 1001)
  t.is(vcpu.getRegs()[1], 501n)
  vcpu.kick()
  t.is(vcpu.runSync(), ExitReason.Intr)
  run.setUint8(KVM_RUN.immediateExit, 1)
  t.is(vcpu.runSync(), ExitReason.Intr)
  run.setUint8(KVM_RUN.immediateExit, 0)
  const start = performance.now()
  t.is(vcpu.runSync({ timeoutMs: 20 }), ExitReason.Intr)
  t.true(performance.now() - start >= 19)
  t.is(vcpu.runSync({ timeoutMs: 0 }), ExitReason.Intr)
  t.throws(() => vcpu.runSync({ timeoutMs: -1 }), errno('EINVAL'))
})

test('HLT sleeps with an irqchip until the time-out', async (t) => {
  const { vcpu } = guest(t, 16, (a) => a.cli().hlt(), { irqchip: true })
  const cpu = process.cpuUsage()
  t.is(vcpu.runSync({ timeoutMs: 100 }), ExitReason.Intr)
  const used = process.cpuUsage(cpu)
  t.true(used.user + used.system < 60_000, 'a halted vCPU burns no CPU')
  t.is(vcpu.stats().halts, 1)
})

test('state of a vCPU can be read and written', async (t) => {
  const { vm, vcpu } = guest(t, 16, (a) => a.hlt(), { irqchip: true })
  const regs = BigUint64Array.from({ length: 18 }, (_, i) => BigInt(i) << 32n)
  regs[17] = 2n
  vcpu.setRegs(regs)
  t.deepEqual(vcpu.getRegs(), regs)
  for (const [get, set] of [
    [() => vcpu.getSregs(), (b: Uint8Array) => vcpu.setSregs(b)],
    [() => vcpu.getFpu(), (b: Uint8Array) => vcpu.setFpu(b)],
    [() => vcpu.getXsave(), (b: Uint8Array) => vcpu.setXsave(b)],
    [() => vcpu.getVcpuEvents(), (b: Uint8Array) => vcpu.setVcpuEvents(b)],
    [() => vcpu.getLapic(), (b: Uint8Array) => vcpu.setLapic(b)],
    [() => vm.getIrqchip(2), (b: Uint8Array) => vm.setIrqchip(b)],
  ] as const) {
    const state = get()
    set(state)
    t.deepEqual(get(), state)
    t.throws(() => set(state.subarray(1)), errno('EINVAL'))
  }
  const fpu = vcpu.getFpu()
  fpu.set([0xaa, 0xbb], 152 + 16)
  vcpu.setFpu(fpu)
  t.deepEqual([...vcpu.getXsave().subarray(176, 178)], [0xaa, 0xbb])
  vcpu.setXcrs([[0, 3n]])
  t.deepEqual(vcpu.getXcrs(), [[0, 3n]])
  t.throws(() => vcpu.setXcrs([[0, 2n]]), errno('EINVAL'))
  const debug = vcpu.getDebugRegs()
  debug[1] = 0x1234n
  vcpu.setDebugRegs(debug)
  t.deepEqual(vcpu.getDebugRegs(), debug)
  vcpu.setCpuid2(kvm.cpuidForModel('qemu64'))
  t.deepEqual(vcpu.getCpuid2(), kvm.cpuidForModel('qemu64'))
  vcpu.setMsrs([[0xc000_0081, 0x0023_0010_0000_0000n]])
  t.deepEqual(vcpu.getMsrs([0xc000_0081, 0x174]), [0x0023_0010_0000_0000n, 0n])
  t.throws(() => vcpu.getMsrs([0x1234_5678]), errno('EINVAL'))
  t.is(vcpu.getMpState(), MpState.Runnable)
  vcpu.setMpState(MpState.Halted)
  t.is(vcpu.getMpState(), MpState.Halted)
  t.throws(() => vcpu.setMpState(99), errno('EINVAL'))
  t.is(vcpu.translate(0x1234n), 0x1234)
  t.true(vcpu.getTscKhz() > 0)
  t.throws(() => vcpu.interrupt(0x20), errno('ENXIO'))
  const clock = vm.getClock()
  vm.setClock({ clock: clock.clock + 10n ** 12n })
  t.true(vm.getClock().clock >= clock.clock + 10n ** 12n)
  vm.createPit2()
  t.throws(() => vm.createPit2(), errno('EEXIST'))
  vm.setPit2(vm.getPit2())
})

test('memslots follow the rules of KVM', async (t) => {
  const vm = kvm.createVm()
  t.teardown(() => vm.close())
  const ram = vm.createRam({ size: 0x8000, backing: 'memfd' })
  t.true(ram.fd >= 0)
  const set = (slot: number, gpa: number, size: number, flags = 0, offset = 0): void =>
    vm.setUserMemoryRegion({ slot, gpa, size, flags, offset, ram })
  set(0, 0x1000, 0x4000)
  t.throws(() => set(1, 0x4000, 0x4000), errno('EEXIST'))
  t.throws(() => set(1, 0x8000, 0x800), errno('EINVAL'))
  t.throws(() => set(1, 0x8000, 0x1000, 0, 0x8000), errno('EINVAL'))
  t.throws(() => set(1, 0x8000, 0x1000, 4), errno('EINVAL'))
  t.throws(() => set(1, 0.5, 0x1000), errno('EINVAL'))
  t.throws(() => set(1, -4096, 0x1000), errno('EINVAL'))
  t.throws(() => vm.setUserMemoryRegion({ slot: 9, gpa: 0, size: 0 }), errno('EINVAL'))
  t.throws(() => vm.createRam({ size: 1000 }), errno('EINVAL'))
  t.throws(() => vm.createRam({ size: 2 ** 52 }), errno('ENOMEM'))
  t.throws(() => vm.createRam({ size: 4096, backing: 'hugetlb' }), errno('EINVAL'))
  const huge = t.throws(() => vm.createRam({ size: 2 ** 46, backing: 'hugetlb' }))
  t.regex(huge?.message ?? '', /needs 33554432 pages of 2 MiB|no pool of 2 MiB pages/)
  // The same bytes at two addresses.
  set(1, 0x10_0000, 0x1000)
  set(2, 0, 0x1000)
  const slots = vm.userMemoryRegions().map(({ slot, gpa }) => `${slot} at ${gpa}`)
  t.deepEqual(slots, ['2 at 0', '0 at 4096', '1 at 1048576'], 'what was refused is not there')
  vm.setUserMemoryRegion({ slot: 2, gpa: 0, size: 0 })
  t.is(vm.userMemoryRegions().length, 2)
  vm.memory.write(0x10_0004, Uint8Array.of(1, 2, 3))
  t.is(vm.memory.view(0x1004, 2).getUint16(0, true), 0x0201)
  const { generation } = vm.memory
  t.is(vm.memory.generation, generation)
  set(2, 0x20_0000, 0x1000)
  set(2, 0x20_0000, 0)
  t.not(vm.memory.generation, generation)
  t.is(new Uint8Array(ram.segment(0))[6], 3)
  t.is(ram.segment(0), ram.segment(0))
  t.true(vm.memory.contains(0x1000, 0x4000))
  t.false(vm.memory.contains(0x1000, 0x4001))
  const short = new Uint8Array(8)
  const long = new Uint8Array(100)
  for (const gpa of [0xfff, 0x4ffc, 0x10_0ffd, 2 ** 52, Number.MAX_SAFE_INTEGER]) {
    t.throws(() => vm.memory.read(gpa, short), errno('EFAULT'))
    t.throws(() => vm.memory.read(gpa, long), errno('EFAULT'))
    t.throws(() => vm.memory.write(gpa, short), errno('EFAULT'))
    t.throws(() => vm.memory.view(gpa, 8), errno('EFAULT'))
  }
  t.throws(() => ram.window(0x7ff0, 0x11), errno('EFAULT'))
  t.throws(() => ram.segment(1), errno('EFAULT'))
  const window = vm.memory.window(0x1004, 4)
  t.is(new Uint8Array(window)[0], 1)
  t.is(ram.hugeBytes(), 0)
  t.true(ram.residentBytes() >= 4096)
  await vm.close()
  t.is(window.byteLength, 0, 'closing detaches')
  t.throws(() => vm.memory.view(0x1004, 1), errno('EBADF'))
  t.throws(() => set(5, 0, 0x1000), errno('EBADF'))
  t.throws(() => attachVm(vm.id), errno('ENOENT'))
})

test('RAM above 1 GiB comes in segments', async (t) => {
  const vm = kvm.createVm()
  t.teardown(() => vm.close())
  const size = 3 * 2 ** 30 + 0x5000
  const ram = vm.createRam({ size })
  vm.setUserMemoryRegion({ slot: 0, gpa: 0x1000, size: size - 0x1000, ram, offset: 0x1000 })
  t.is(ram.segments, 4)
  t.is(ram.segment(3).byteLength, 0x5000)
  const edge = 2 * 2 ** 30
  vm.memory.write(edge - 2, Uint8Array.of(1, 2, 3, 4))
  const back = new Uint8Array(4)
  vm.memory.read(edge - 2, back)
  t.deepEqual([...back], [1, 2, 3, 4])
  t.is(vm.memory.view(edge, 2).getUint16(0, true), 0x0403)
  const piece = vm.memory.piece(edge + 5)
  t.is(vm.memory.piece(edge), piece)
  t.is(piece.gpa, edge)
  t.is(piece.bytes[1], 4)
  t.throws(() => vm.memory.piece(2 ** 40), { code: 'EFAULT' })
  t.throws(() => vm.memory.view(edge - 2, 4), { code: 'EFAULT', message: /segments/ })
})

test('the dirty log sees the guest and the devices', async (t) => {
  const code = (a: Assembler): Assembler =>
    a.label('x').store(1, 0x3000).outImm8(1).store(1, 0x3001).outImm8(1).jmp('x')
  const { vm, vcpu } = guest(t, 16, code)
  const ram = vm.createRam({ size: 0x4_0000 })
  vm.setUserMemoryRegion({ slot: 1, gpa: 0x20_0000, size: 0x4_0000, ram, flags: 1 })
  t.throws(() => vm.getDirtyLog(0), errno('ENOENT'))
  // RAM of a slot is fixed, its flags are not.
  vm.setUserMemoryRegion({ slot: 0, gpa: 0, size: 0x10_0000, flags: 1 })
  const page3 = (): boolean => ((vm.getDirtyLog(0)[0] ?? 0) & 8) !== 0
  for (let i = 0; i < 4; i++) {
    t.is(vcpu.runSync(), ExitReason.Io)
    t.true(page3(), `write ${i} after a harvest is seen again`)
  }
  t.false(page3())
  vm.memory.write(0x3456, Uint8Array.of(1))
  t.true(page3())
  vm.memory.markWritten(0x20_1000, 0x1001)
  t.is(vm.getDirtyLog(1)[0], 6)
  ram.markWritten(0x3f000, 1)
  t.is(vm.getDirtyLog(1)[7], 0x80)
  const gpas = Float64Array.of(0.5, 0x20_0fff, 2 ** 50, 0x20_4000)
  const lengths = Uint32Array.of(1, 2, 5, 0)
  vm.memory.markAllWritten(gpas, lengths, 1, 4)
  t.is(vm.getDirtyLog(1)[0], 3)
  vm.memory.markAllWritten(gpas, lengths, 4, 4)
  for (const [first, end] of [
    [0, 1],
    [2, 1],
    [1, 5],
  ] as const) {
    const mark = (): void => vm.memory.markAllWritten(gpas, lengths, first, end)
    t.throws(mark, errno('EINVAL'))
  }
  t.deepEqual(
    [...vm.getDirtyLog(1)],
    Array.from({ length: 8 }, () => 0),
  )
  vm.setManualDirtyLogProtect(true)
  ram.markWritten(0, 0x2000)
  t.is(vm.getDirtyLog(1)[0], 3)
  vm.clearDirtyLog({
    slot: 1,
    firstPage: 0,
    numPages: 64,
    bitmap: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0),
  })
  t.is(vm.getDirtyLog(1)[0], 2)
})

test('code that a device overwrites is executed as written', async (t) => {
  const { vm, vcpu, run } = guest(t, 16, (a) =>
    a.label('x').movImm8(Reg.ax, 1).outImm8(0x10).jmp('x'),
  )
  for (const value of [1, 2, 3]) {
    vm.memory.write(CODE + 1, Uint8Array.of(value))
    t.is(vcpu.runSync(), ExitReason.Io)
    t.is(run.getUint8(KVM_RUN.pioData), value)
  }
})

test('routes answer without exits, ioeventfds signal', async (t) => {
  const code = (a: Assembler): Assembler =>
    a
      .movImm8(Reg.ax, 0x41)
      .outImm8(0x40)
      .outImm8(0x41)
      .inImm8(0x42)
      .store(1, 0x2000)
      .inImm8(0x43)
      .store(1, 0x2001)
      .outImm8(0x44)
      .label('x')
      .jmp('x')
  const { vm, vcpu } = guest(t, 16, code)
  const host = vm.createDeviceHost(() => t.fail('runSync never reaches the event loop'))
  vm.route({ space: 'pio', base: 0x40, len: 2, kind: 'posted' })
  const latched = vm.route({ space: 'pio', base: 0x42, len: 1, kind: 'latched' })
  const ignored = vm.route({ space: 'pio', base: 0x43, len: 1, kind: 'ignore' })
  const event = vm.ioeventfd({ addr: 0x44, len: 1, datamatch: 0xff, pio: true }, 77)
  t.throws(() => vm.route({ space: 'pio', base: 0x41, len: 4 }), errno('EEXIST'))
  t.throws(() => vm.route({ space: 'mmio', base: 0, len: 65, kind: 'latched' }), errno('EINVAL'))
  t.throws(() => vm.ioeventfd({ addr: 0x44, len: 1, pio: true }, 1), errno('EEXIST'))
  t.throws(() => vm.ioeventfd({ addr: 0, len: 0, datamatch: 1 }, 1), errno('EINVAL'))
  latched.latch?.set([0x99])
  const seen: string[] = []
  while (seen.length < 3) {
    t.is(vcpu.runSync({ timeoutMs: 5000 }), ExitReason.Intr)
    host.serve({
      exit: () => t.fail(),
      posted: (w) => seen.push(`${w.space} ${w.addr} ${w.size} ${w.value}`),
      ioevent: (id) => seen.push(`event ${id}`),
    })
  }
  t.deepEqual(seen, ['pio 64 1 65', 'pio 65 1 65', 'event 77'])
  t.is(vm.memory.view(0x2000, 2).getUint16(0, true), 0xff99)
  t.is(vcpu.stats().kernelExits, 5)
  for (const thing of [latched, ignored, event, host]) thing.close()
  t.is(latched.latch?.length, 0)
})

test('the soft engine counts what it decodes and interprets', (t) => {
  const { vcpu } = guest(t, 16, (a) => a.movImm8(Reg.ax, 1).outImm8(0x10).hlt())
  t.is(vcpu.stats().code?.decodedBlocks, 0)
  t.is(vcpu.runSync(), ExitReason.Io)
  t.is(vcpu.runSync(), ExitReason.Hlt)
  const { code } = vcpu.stats()
  t.is(code?.interpretedInstructions, vcpu.instructions())
  t.true((code?.decodedBlocks ?? 0) >= 2 && code?.translations === 0 && code?.codeBytes === 0)
})

test('an exit that is deferred is answered later', async (t) => {
  const { vm, vcpu, run } = guest(t, 16, (a) => a.inImm8(0x10).store(1, 0x2000).outImm8(0x11).hlt())
  let deferred = false
  const done = new Promise<void>((resolve) => {
    const host = vm.createDeviceHost(() => {
      host.serve({
        exit() {
          if (run.getUint16(KVM_RUN.ioPort, true) === 0x11) return resolve()
          setTimeout(() => {
            run.setUint8(KVM_RUN.pioData, 0x5c)
            t.true(host.complete(0))
            t.false(host.complete(1), 'nothing waits there')
          }, 5)
          deferred = true
          return DEFER
        },
      })
    })
  })
  vcpu.start()
  await done
  t.true(deferred)
  t.is(vm.memory.view(0x2000, 1).getUint8(0), 0x5c)
})
