// One set of expectations for every engine that opens on this machine.
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
import { Assembler, Reg, enterLong, enterProtected, enterReal } from '../../src/testing/index.ts'

export const CODE = 0x6000
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

/** Registers `body` as a test of each engine; the title begins with the engine's name. */
export function conform(
  title: string,
  body: (t: ExecutionContext, kvm: Kvm) => Promise<void> | void,
): void {
  for (const { name, kvm } of opened) test(`${name}: ${title}`, (t) => body(t, kvm))
}

export interface Guest {
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
  const vcpu = vm.vcpu(0)
  if (bits === 16) enterReal(vcpu, CODE)
  else if (bits === 32) enterProtected(vm, vcpu, CODE)
  else enterLong(vm, vcpu, CODE)
  return { vm, vcpu, run: new DataView(vcpu.run) }
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

/** Gives a 32-bit guest an IDT: each vector's handler is what `code` builds, then IRET. */
export function handle(
  { vm, vcpu }: Guest,
  handlers: Readonly<Record<number, (a: Assembler) => Assembler>>,
): void {
  for (const [number, code] of Object.entries(handlers)) {
    const vector = Number(number)
    const at = HANDLERS + vector * 64
    vm.memory.write(at, code(new Assembler(32, at)).iret().build())
    const gate = vm.memory.view(IDT + vector * 8, 8)
    gate.setUint16(0, at & 0xffff, true)
    gate.setUint16(2, 0x10, true)
    gate.setUint16(4, 0x8e00, true)
    gate.setUint16(6, at >> 16, true)
  }
  const sregs = vcpu.getSregs()
  const view = new DataView(sregs.buffer, sregs.byteOffset)
  view.setBigUint64(IDT_OFFSET, BigInt(IDT), true)
  view.setUint16(IDT_OFFSET + 8, 0x7ff, true)
  vcpu.setSregs(sregs)
}

export const APIC = 0xfee0_0000
export const IOAPIC = 0xfec0_0000

/** MOV dword [address], imm32 in 32-bit code. */
export function poke(a: Assembler, address: number, value: number): Assembler {
  return a.db(0xc7, 0x05).value(address, 4).value(value, 4)
}

/** Routes an IOAPIC pin to a vector of APIC 0. */
export function ioapicPin(a: Assembler, pin: number, entry: number): Assembler {
  poke(a, IOAPIC, 0x11 + 2 * pin)
  poke(a, IOAPIC + 0x10, 0)
  poke(a, IOAPIC, 0x10 + 2 * pin)
  return poke(a, IOAPIC + 0x10, entry)
}

/** Enables the local APIC of a 32-bit guest, and masks the PICs, which share its lines. */
export function enableApic(a: Assembler): Assembler {
  a.movImm8(Reg.ax, 0xff).outImm8(0x21).outImm8(0xa1)
  return poke(a, APIC + 0xf0, 0x1ff)
}

/** The port of the last write of a log. */
export function lastPort(log: readonly ByteAccess[]): number | undefined {
  return log.at(-1)?.addr
}
