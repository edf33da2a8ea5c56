// System management mode on the software engine: the way in and out, and the memory that it alone sees.
import test from 'ava'
import type { ExecutionContext } from 'ava'

import { Cap, ExitReason, KVM_RUN, KvmError, open } from '../src/index.ts'
import type { Vcpu, Vm } from '../src/index.ts'
import { Assembler, Reg, enterLong, enterReal } from '../src/testing/index.ts'
import { CODE, RAM_BYTES } from './guest.ts'

const SMBASE = 0x3_0000
const HANDLER = SMBASE + 0x8000
const MSR_SMBASE = 0x9e
const IN_SMM = 1 << 16
/** A page that the mode alone sees, and where what it has is. */
const OWN = 0x2_0000
const OWN_OFFSET = 0x8_0000
/** A port that nobody has: an exit in the handler. */
const PORT = 0x55

interface Fixture {
  vm: Vm
  vcpu: Vcpu
  run: DataView
}

/** A vCPU that is about to execute `code`, and a handler that is entered in real mode with flat segments. */
function create(
  t: ExecutionContext,
  bits: 16 | 64,
  code: (asm: Assembler) => Assembler,
  handler: (asm: Assembler) => Assembler,
  { irqchip = false } = {},
): Fixture {
  const vm = open({ engine: 'soft' }).createVm()
  t.teardown(() => vm.close())
  if (irqchip) vm.createIrqchip()
  const ram = vm.createRam({ size: RAM_BYTES })
  vm.setUserMemoryRegion({ slot: 0, gpa: 0, size: OWN, ram })
  const behind = OWN + 0x1000
  vm.setUserMemoryRegion({ slot: 1, gpa: behind, size: OWN_OFFSET - behind, ram, offset: behind })
  vm.setUserMemoryRegion({ slot: IN_SMM, gpa: OWN, size: 0x1000, ram, offset: OWN_OFFSET })
  vm.memory.write(CODE, code(new Assembler(bits, CODE)).build())
  vm.memory.write(HANDLER, handler(new Assembler(16, 0x8000)).db(0x0f, 0xaa).build()) // rsm
  const vcpu = vm.createVcpu(0)
  if (bits === 16) enterReal(vcpu, CODE)
  else enterLong(vm, vcpu, CODE)
  return { vm, vcpu, run: new DataView(vcpu.run) }
}

/** Adds one to a byte by a 32-bit address: data segments of the handler are flat. */
const increment = (asm: Assembler, address: number): Assembler =>
  asm.db(0x67, 0xfe, 0x05).value(address, 4)

test('an SMI is taken at an instruction and RSM goes on behind it', (t) => {
  t.is(open({ engine: 'soft' }).checkExtension(Cap.X86Smm), 1)
  t.is(open({ engine: 'soft' }).checkExtension(Cap.MultiAddressSpace), 2)
  for (const bits of [16, 64] as const) {
    const { vm, vcpu, run } = create(
      t,
      bits,
      (asm) => asm.movImm(Reg.cx, 0x1234).nop().nop().hlt(),
      (asm) => increment(asm, 0x1000).movImm(Reg.cx, 0).outImm8(PORT),
    )
    const before = vcpu.getSregs()
    vcpu.smi()
    t.is(vcpu.runSync(), ExitReason.Io)
    t.is(run.getUint16(KVM_RUN.flags, true) & 1, 1, 'KVM_RUN_X86_SMM')
    t.is(vcpu.runSync(), ExitReason.Hlt)
    t.is(run.getUint16(KVM_RUN.flags, true) & 1, 0)
    t.is(Number(vcpu.getRegs()[2]! & 0xffffn), 0x1234)
    t.deepEqual(vcpu.getSregs(), before)
    const count = new Uint8Array(1)
    vm.memory.read(0x1000, count)
    t.is(count[0], 1)
  }
})

test('a halted processor takes an SMI and is halted again', (t) => {
  const { vm, vcpu } = create(
    t,
    16,
    (asm) => asm.cli().hlt().hlt(),
    (asm) => increment(asm, 0x1000).outImm8(PORT),
    { irqchip: true },
  )
  // HLT sleeps until the time is over.
  const sleep = (): ExitReason => vcpu.runSync({ timeoutMs: 20 })
  t.is(sleep(), ExitReason.Intr)
  const rip = vcpu.getRegs()[16]
  for (let i = 1; i <= 3; i++) {
    vcpu.smi()
    t.is(vcpu.runSync(), ExitReason.Io)
    t.is(sleep(), ExitReason.Intr)
    t.is(vcpu.getRegs()[16], rip)
    const count = new Uint8Array(1)
    vm.memory.read(0x1000, count)
    t.is(count[0], i)
  }
})

test('memory of the second address space is seen in the mode alone', (t) => {
  // What is called at OWN adds one to a byte; the guest outside has nothing there, or other code.
  const { vm, vcpu, run } = create(
    t,
    16,
    (asm) =>
      asm
        .db(0xa0)
        .value(0x1000, 2)
        .outImm8(PORT)
        .db(0x9a)
        .value(0, 2)
        .value(OWN >> 4, 2)
        .hlt(),
    (asm) =>
      asm
        .db(0x9a)
        .value(0, 2)
        .value(OWN >> 4, 2),
  )
  const routine = (address: number): Uint8Array =>
    new Assembler(16, 0).db(0x2e).db(0xfe, 0x06).value(address, 2).db(0xcb).build()
  vm.memory.write(OWN_OFFSET - 0x1000, routine(0x800))
  t.throws(() => vm.memory.write(OWN, routine(0x800)), { code: 'EFAULT' })
  const own = vm.createRam({ size: 0x1000 })
  const other = vm.createRam({ size: 0x1000 })
  vm.setUserMemoryRegion({ slot: IN_SMM, gpa: OWN, size: 0 })
  vm.setUserMemoryRegion({ slot: IN_SMM, gpa: OWN, size: 0x1000, ram: own })
  vm.setUserMemoryRegion({ slot: 2, gpa: OWN, size: 0x1000, ram: other })
  const bytesOf = { own: new Uint8Array(own.segment(0)), other: new Uint8Array(other.segment(0)) }
  bytesOf.own.set(routine(0x800))
  bytesOf.other.set(routine(0x900))
  // Code at the same address, in turn inside and outside: neither takes the other's.
  for (let round = 1; round <= 40; round++) {
    enterReal(vcpu, CODE)
    vcpu.setMpState(0)
    vcpu.smi()
    t.is(vcpu.runSync(), ExitReason.Io)
    t.is(run.getUint16(KVM_RUN.flags, true) & 1, 0)
    t.is(vcpu.runSync(), ExitReason.Hlt)
    t.deepEqual([bytesOf.own[0x800], bytesOf.other[0x900]], [round, round])
    t.deepEqual([bytesOf.own[0x900], bytesOf.other[0x800]], [0, 0])
  }
})

test('an SMI within the mode waits for its end', (t) => {
  const { vm, vcpu } = create(
    t,
    16,
    (asm) => asm.nop().hlt(),
    (asm) => increment(asm, 0x1000).outImm8(PORT),
  )
  vcpu.smi()
  t.is(vcpu.runSync(), ExitReason.Io)
  vcpu.smi()
  t.is(vcpu.runSync(), ExitReason.Io, 'the second one comes when the first has ended')
  t.is(vcpu.runSync(), ExitReason.Hlt)
  const count = new Uint8Array(1)
  vm.memory.read(0x1000, count)
  t.is(count[0], 2)
})

test('a guest that was stopped in the mode goes on in another VM', (t) => {
  const parts = [
    (asm: Assembler): Assembler => asm.movImm(Reg.cx, 0x77).nop().hlt(),
    (asm: Assembler): Assembler => asm.outImm8(PORT).movImm(Reg.cx, 0),
  ] as const
  const first = create(t, 64, ...parts)
  first.vcpu.setMsrs([[MSR_SMBASE, 0x3_0000n]])
  first.vcpu.smi()
  t.is(first.vcpu.runSync(), ExitReason.Io)
  const second = create(t, 64, ...parts)
  const area = new Uint8Array(0x200)
  first.vm.memory.read(SMBASE + 0xfe00, area)
  second.vm.memory.write(SMBASE + 0xfe00, area)
  const { vcpu } = second
  vcpu.setSregs(first.vcpu.getSregs())
  vcpu.setRegs(first.vcpu.getRegs())
  vcpu.setVcpuEvents(first.vcpu.getVcpuEvents())
  t.is(vcpu.runSync(), ExitReason.Io)
  t.is(vcpu.runSync(), ExitReason.Hlt)
  t.is(Number(vcpu.getRegs()[2]! & 0xffffn), 0x77)
})

test('RSM outside the mode is undefined, and a state that cannot be ends the guest', (t) => {
  const outside = create(
    t,
    16,
    (asm) => asm.db(0x0f, 0xaa),
    (asm) => asm,
  )
  outside.vm.memory.write(6 * 4, Uint8Array.of(0x00, 0x70, 0, 0)) // #UD at 0:7000
  outside.vm.memory.write(0x7000, Uint8Array.of(0xf4))
  t.is(outside.vcpu.runSync(), ExitReason.Hlt)
  t.is(outside.vcpu.getRegs()[16], 0x7001n)

  const bad = create(
    t,
    16,
    (asm) => asm.nop().hlt(),
    // CR0 of the saved state: paging without protection.
    (asm) =>
      asm
        .db(0x67, 0x66, 0xc7, 0x05)
        .value(SMBASE + 0xff58, 4)
        .value(0x8000_0010, 4),
  )
  bad.vcpu.smi()
  t.is(bad.vcpu.runSync(), ExitReason.Shutdown)
  t.throws(() => bad.vcpu.setMsrs([[MSR_SMBASE, 1n << 32n]]), { instanceOf: KvmError })
})
