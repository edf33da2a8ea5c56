// One set of expectations for every engine that opens on this machine.
import { readFileSync } from 'node:fs'
import test, { type ExecutionContext } from 'ava'

import {
  ExitReason,
  KVM_RUN,
  type Kvm,
  KvmError,
  type Vcpu,
  type Vm,
  open,
} from '../../src/index.ts'
import {
  Assembler,
  Reg,
  SELECTOR,
  TABLES,
  enterLong,
  enterProtected,
  enterReal,
} from '../../src/testing/index.ts'

export const CODE = 0x6000
/** A page directory for 64-bit guests, behind those of `enterLong`. */
const DEVICE_PD = 0x5000
export const RAM_BYTES = 0x20_0000
/** Nobody's memory: accesses exit. */
export const DEVICE = 0x3000_0000

const opened: { readonly name: string; readonly kvm: Kvm }[] = []
for (const engine of ['soft', 'host'] as const) {
  try {
    opened.push({ name: engine, kvm: open({ engine }) })
  } catch (error) {
    // The software engine always opens; the other one needs /dev/kvm.
    if (engine === 'soft' || !(error instanceof KvmError)) throw error
  }
}

/**
 * Whether /dev/kvm is somebody's emulation: the CPU has no virtualization. Such a KVM may be unable to execute what it
 * does not expect, and says so with KVM_EXIT_INTERNAL_ERROR.
 */
const emulated = !/^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'))

type Body = (t: ExecutionContext, kvm: Kvm) => Promise<void> | void

/** Registers `body` as a test of each engine; the title begins with the engine's name. */
export function conform(title: string, body: Body): void {
  for (const { name, kvm } of opened) {
    test(`${name}: ${title}`, (t) => (isEmulation(kvm) ? tolerate(t, kvm, body) : body(t, kvm)))
  }
}

/** The same in 32-bit code without paging and in 64-bit code. */
export function conformIn32And64(
  title: string,
  body: (t: ExecutionContext, kvm: Kvm, bits: 32 | 64) => Promise<void> | void,
): void {
  for (const bits of [32, 64] as const) {
    conform(`${title}, ${bits}-bit code`, (t, kvm) => body(t, kvm, bits))
  }
}

/** The vCPUs of the guests of each test. */
const guests = new WeakMap<ExecutionContext, Vcpu[]>()

/** Runs a test on a KVM that is an emulation: where that gave up on a guest, there is nothing to compare. */
async function tolerate(t: ExecutionContext, kvm: Kvm, body: Body): Promise<void> {
  let gaveUp = false
  const attempt = await t.try(async (inner) => {
    try {
      await body(inner, kvm)
    } finally {
      gaveUp = (guests.get(inner) ?? []).some(
        ({ run }) =>
          new DataView(run).getUint32(KVM_RUN.exitReason, true) === ExitReason.InternalError,
      )
    }
  })
  if (attempt.passed || !gaveUp) return attempt.commit()
  attempt.discard()
  notCompared(t, 'gave up on the guest (KVM_EXIT_INTERNAL_ERROR)')
}

/** Passes, and says what a KVM without a CPU behind it has not got. */
export function notCompared(t: ExecutionContext, why: string): void {
  t.log(`not compared: this KVM emulates a CPU, and ${why}`)
  t.pass()
}

/** Whether this is such a KVM. */
export const isEmulation = (kvm: Kvm): boolean => kvm.engine === 'host' && emulated

export interface Guest {
  readonly bits: 16 | 32 | 64
  readonly vm: Vm
  readonly vcpu: Vcpu
  readonly run: DataView
}

export interface GuestOptions {
  readonly irqchip?: boolean
  /** Number of vCPUs; all of the model `max`. Default 1. */
  readonly vcpus?: number
  /** `setUserMemoryRegion` flags of the RAM at zero. */
  readonly flags?: number
}

/** A VM with RAM at zero whose vCPU 0 is about to execute `code` in 16, 32 or 64-bit mode. */
export function guest(
  t: ExecutionContext,
  kvm: Kvm,
  bits: 16 | 32 | 64,
  code: (a: Assembler) => Assembler,
  opts: GuestOptions = {},
): Guest {
  const vm = kvm.createVm()
  t.teardown(() => vm.close())
  const vcpus: Vcpu[] = guests.get(t) ?? []
  guests.set(t, vcpus)
  if (opts.irqchip === true) vm.createIrqchip()
  const ram = vm.createRam({ size: RAM_BYTES })
  vm.setUserMemoryRegion({ slot: 0, gpa: 0, size: RAM_BYTES, ram, flags: opts.flags ?? 0 })
  vm.memory.write(CODE, code(new Assembler(bits, CODE)).build())
  const cpuid = kvm.cpuidForModel('max')
  for (let index = 0; index < (opts.vcpus ?? 1); index++) {
    vm.createVcpu(index).setCpuid2(
      cpuid.map((e) => (e.function === 1 ? { ...e, ebx: (e.ebx & 0xffffff) | (index << 24) } : e)),
    )
  }
  vcpus.push(...vm.vcpus.map((index) => vm.vcpu(index)))
  const vcpu = vm.vcpu(0)
  if (bits === 16) enterReal(vcpu, CODE)
  else if (bits === 32) enterProtected(vm, vcpu, CODE)
  else {
    enterLong(vm, vcpu, CODE)
    // The interrupt controllers, at their addresses and, for operands of 32 bits, at the end of all addresses.
    const entry = (gpa: number, value: bigint): void =>
      vm.memory.view(gpa, 8).setBigUint64(0, value, true)
    entry(TABLES.pml4 + 511 * 8, BigInt(TABLES.pdpt) | 3n)
    for (const index of [3, 511]) entry(TABLES.pdpt + index * 8, BigInt(DEVICE_PD) | 3n)
    for (let i = 0; i < 512; i++)
      entry(DEVICE_PD + i * 8, 0xc000_0000n + (BigInt(i) << 21n) + 0x9bn)
  }
  return { bits, vm, vcpu, run: new DataView(vcpu.run) }
}

/** One byte that a device access moves. */
export interface ByteAccess {
  readonly space: 'pio' | 'mmio'
  readonly write: boolean
  readonly addr: number
  readonly value: number
}

/**
 * Runs until something other than a device access ends the entry, or until `done`. Accesses are
 * noted byte by byte, because engines may cut them differently; `read` gives the bytes of reads.
 */
export function serve(
  { vcpu, run }: Guest,
  read: (addr: number) => number = () => 0xff,
  done: (log: readonly ByteAccess[]) => boolean = () => false,
): { readonly why: ExitReason; readonly log: ByteAccess[] } {
  const log: ByteAccess[] = []
  for (;;) {
    const why = vcpu.runSync({ timeoutMs: 20_000 })
    if (why === ExitReason.Io) io(run, read, log)
    else if (why === ExitReason.Mmio) mmio(run, read, log)
    else return { why, log }
    if (done(log)) return { why, log }
  }
}

function io(run: DataView, read: (addr: number) => number, log: ByteAccess[]): void {
  const write = run.getUint8(KVM_RUN.ioDirection) === 1
  const size = run.getUint8(KVM_RUN.ioSize)
  const port = run.getUint16(KVM_RUN.ioPort, true)
  const count = run.getUint32(KVM_RUN.ioCount, true)
  const at = Number(run.getBigUint64(KVM_RUN.ioDataOffset, true))
  for (let i = 0; i < count * size; i++) {
    const addr = port + (i % size)
    if (!write) run.setUint8(at + i, read(addr))
    log.push({ space: 'pio', write, addr, value: run.getUint8(at + i) })
  }
}

function mmio(run: DataView, read: (addr: number) => number, log: ByteAccess[]): void {
  const write = run.getUint8(KVM_RUN.mmioIsWrite) === 1
  const len = run.getUint32(KVM_RUN.mmioLen, true)
  const base = Number(run.getBigUint64(KVM_RUN.mmioPhysAddr, true))
  for (let i = 0; i < len; i++) {
    if (!write) run.setUint8(KVM_RUN.mmioData + i, read(base + i))
    log.push({ space: 'mmio', write, addr: base + i, value: run.getUint8(KVM_RUN.mmioData + i) })
  }
}

/** The written bytes of a log as `address=value` in hexadecimal. */
export function written(log: readonly ByteAccess[]): string[] {
  return log
    .filter((access) => access.write)
    .map(({ addr, value }) => `${addr.toString(16)}=${value.toString(16)}`)
}

/** A general register of `kvm_regs`, by its place there. */
export function register(vcpu: Vcpu, index: number): bigint {
  return vcpu.getRegs()[index] ?? 0n
}

/** Where handlers that `handle` installs lie, 64 bytes for each vector. */
const HANDLERS = 0x1_0000
const IDT = 0xf000
const IDT_OFFSET = 8 * 24 + 16

/** Gives a guest an IDT: each vector's handler is what `code` builds, then IRET. */
export function handle(
  { bits, vm, vcpu }: Guest,
  handlers: Readonly<Record<number, (a: Assembler) => Assembler>>,
): void {
  const size = bits === 64 ? 16 : 8
  for (const [number, code] of Object.entries(handlers)) {
    const vector = Number(number)
    const at = HANDLERS + vector * 64
    vm.memory.write(at, code(new Assembler(bits, at)).iret().build())
    const gate = vm.memory.view(IDT + vector * size, size)
    gate.setUint16(0, at & 0xffff, true)
    gate.setUint16(2, bits === 64 ? SELECTOR.code64 : SELECTOR.code32, true)
    gate.setUint16(4, 0x8e00, true)
    gate.setUint16(6, at >> 16, true)
  }
  const sregs = vcpu.getSregs()
  const view = new DataView(sregs.buffer, sregs.byteOffset)
  view.setBigUint64(IDT_OFFSET, BigInt(IDT), true)
  view.setUint16(IDT_OFFSET + 8, 256 * size - 1, true)
  vcpu.setSregs(sregs)
}

/** What follows an opcode whose operand in memory is at an address of 32 bits: ModRM, in 64-bit code SIB, displacement. */
export function absolute(a: Assembler, reg: number, address: number): Assembler {
  const modrm = a.bits === 64 ? [0x04 | (reg << 3), 0x25] : [0x05 | (reg << 3)]
  return a.db(...modrm).value(address, 4)
}

export const APIC = 0xfee0_0000
export const IOAPIC = 0xfec0_0000

/** MOV dword [address], imm32. In 64-bit code the address is below 2 GiB or one of the interrupt controllers'. */
export function poke(a: Assembler, address: number, value: number): Assembler {
  return absolute(a.db(0xc7), 0, address).value(value, 4)
}

/** Routes an IOAPIC pin to a vector of APIC 0. */
export function ioapicPin(a: Assembler, pin: number, entry: number): Assembler {
  poke(a, IOAPIC, 0x11 + 2 * pin)
  poke(a, IOAPIC + 0x10, 0)
  poke(a, IOAPIC, 0x10 + 2 * pin)
  return poke(a, IOAPIC + 0x10, entry)
}

/** Enables the local APIC of a guest, and masks the PICs, which share its lines. */
export function enableApic(a: Assembler): Assembler {
  a.movImm8(Reg.ax, 0xff).outImm8(0x21).outImm8(0xa1)
  return poke(a, APIC + 0xf0, 0x1ff)
}

/** The port of the last write of a log. */
export function lastPort(log: readonly ByteAccess[]): number | undefined {
  return log.at(-1)?.addr
}

/** Whether the local APIC has a vector in service. */
export function inService(vcpu: Vcpu, vector: number): boolean {
  const lapic = vcpu.getLapic()
  const word = new DataView(lapic.buffer, lapic.byteOffset).getUint32(
    0x100 + (vector >> 5) * 16,
    true,
  )
  return ((word >> (vector & 31)) & 1) === 1
}
