// Modes of the CPU: the same arithmetic in each, and the way from one to the next.
import { ExitReason } from '../../src/index.ts'
import { Assembler, Reg, SELECTOR, TABLES } from '../../src/testing/index.ts'
import {
  CODE,
  conform,
  guest,
  isEmulation,
  notCompared,
  register,
  serve,
  written,
} from './engines.ts'

for (const bits of [16, 32, 64] as const) {
  conform(`modes: a loop in ${bits}-bit code`, (t, kvm) => {
    const g = guest(t, kvm, bits, (a) =>
      a
        .movImm(Reg.cx, 1000)
        .movImm(Reg.bx, 0)
        .label('x')
        .incReg(Reg.bx)
        .loop('x')
        .movImm8(Reg.ax, 0x5a)
        .outImm8(0x10)
        .hlt(),
    )
    const { why, log } = serve(g)
    t.is(why, ExitReason.Hlt)
    t.deepEqual(written(log), ['10=5a'])
    t.is(register(g.vcpu, 1) & 0xffffn, 1000n)
  })
}

conform('modes: real to protected by a far jump', (t, kvm) => {
  const target = 0x7000
  const g = guest(t, kvm, 16, (a) =>
    a
      .cli()
      .db(0x0f, 0x01, 0x16) // lgdt [gdtr]
      .value(0x5800, 2)
      .db(0x0f, 0x20, 0xc0) // mov eax, cr0
      .db(0x0c, 0x01) // or al, 1
      .db(0x0f, 0x22, 0xc0) // mov cr0, eax
      .db(0x66, 0xea) // jmp far 10:target
      .value(target, 4)
      .value(SELECTOR.code32, 2),
  )
  const gdt = new DataView(new ArrayBuffer(46))
  gdt.setUint16(0, 39, true)
  gdt.setUint32(2, 0x5808, true)
  const entries = [0n, 0x00009b000000ffffn, 0x00cf9b000000ffffn, 0x00cf93000000ffffn, 0n]
  entries.forEach((entry, i) => gdt.setBigUint64(6 + i * 8, entry, true))
  const bytes = new Uint8Array(gdt.buffer)
  g.vm.memory.write(0x5800, bytes.subarray(0, 6))
  g.vm.memory.write(0x5808, bytes.subarray(6))
  const flat = new Assembler(32, target)
    .db(0x66, 0xb8)
    .value(SELECTOR.data, 2) // mov ax, data
    .db(0x8e, 0xd8) // mov ds, ax
    .movImm(Reg.ax, 0x1234_5678)
    .store(4, 0x10_0000) // beyond what real mode reaches
    .movImm(Reg.dx, 0x10)
    .outDx32()
    .hlt()
    .build()
  g.vm.memory.write(target, flat)
  const { why, log } = serve(g)
  t.is(why, ExitReason.Hlt)
  t.deepEqual(written(log), ['10=78', '11=56', '12=34', '13=12'])
  t.is(g.vm.memory.view(0x10_0000, 4).getUint32(0, true), 0x1234_5678)
})

conform('modes: PAE paging maps what its tables say', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) => a.load(4, 0x40_1234).movImm(Reg.dx, 0x10).outDx32().hlt())
  const entry = (gpa: number, value: bigint): void =>
    g.vm.memory.view(gpa, 8).setBigUint64(0, value, true)
  const [pdpt, pd, pt] = [0x8000, 0x9000, 0xa000]
  entry(pdpt, BigInt(pd) | 1n)
  entry(pd, 0x83n)
  // 4 MiB and up: a table whose second page is page 0x123.
  entry(pd + 16, BigInt(pt) | 3n)
  entry(pt + 8, 0x12_3003n)
  g.vm.memory.view(0x12_3234, 4).setUint32(0, 0xcafe_f00d, true)
  const sregs = g.vcpu.getSregs()
  const view = new DataView(sregs.buffer, sregs.byteOffset)
  const cr0 = 8 * 24 + 32
  view.setBigUint64(cr0, 0x8000_0011n, true)
  view.setBigUint64(cr0 + 16, BigInt(pdpt), true)
  view.setBigUint64(cr0 + 24, 0x20n, true)
  g.vcpu.setSregs(sregs)
  const kept = g.vcpu.getSregs()
  const pages = new DataView(kept.buffer, kept.byteOffset).getBigUint64(cr0, true) >> 31n === 1n
  if (isEmulation(kvm) && !pages) return notCompared(t, 'has no paging outside 64-bit mode')
  t.true(pages)
  t.is(g.vcpu.translate(0x40_1234n), 0x12_3234)
  const { why, log } = serve(g)
  t.is(why, ExitReason.Hlt)
  t.deepEqual(written(log), ['10=d', '11=f0', '12=fe', '13=ca'])
})

conform('modes: long mode has 64-bit registers and its own tables', (t, kvm) => {
  const g = guest(t, kvm, 64, (a) =>
    a.movImm64(Reg.ax, 0x1122_3344_5566_7788n).store(8, 0x10_0000).load(8, 0x10_0000).hlt(),
  )
  t.is(serve(g).why, ExitReason.Hlt)
  t.is(register(g.vcpu, 0), 0x1122_3344_5566_7788n)
  t.is(g.vcpu.translate(0x10_0000n), 0x10_0000)
  t.is(g.vcpu.translate(0x8000_0000_0000n), undefined)
  t.is(g.vm.memory.view(TABLES.pml4, 8).getUint8(0) & 0x20, 0x20, 'the accessed bit is set')
})

conform('modes: code at the end of a page and across it', (t, kvm) => {
  const at = 0x7ffd
  const g = guest(t, kvm, 32, (a) => a.db(0xe9).value(at - (CODE + 5), 4))
  g.vm.memory.write(at, new Assembler(32, at).movImm(Reg.ax, 0x0102_0304).hlt().build())
  t.is(serve(g).why, ExitReason.Hlt)
  t.is(register(g.vcpu, 0), 0x0102_0304n)
})
