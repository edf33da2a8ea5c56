import test from 'ava'

import { Assembler, Cond, Reg } from '../src/testing/index.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

test('the same call is encoded for the code size', (t) => {
  t.is(hex(new Assembler(16).movImm(Reg.dx, 0x1234).build()), 'ba3412')
  t.is(hex(new Assembler(32).movImm(Reg.dx, 0x1234).build()), 'ba34120000')
  t.is(hex(new Assembler(16).inDx32().build()), '66ed')
  t.is(hex(new Assembler(64).store(8, 0x1000).build()), '48a30010000000000000')
  t.is(hex(new Assembler(64).iret().build()), '48cf')
})

test('labels work in both directions', (t) => {
  const code = new Assembler(16, 0x1000)
    .label('top')
    .decReg(Reg.cx)
    .jcc(Cond.nz, 'top')
    .jmp('end')
    .nop()
    .label('end')
    .hlt()
    .build()
  t.is(hex(code), 'ffc975fceb0190f4')
})

test('a label as a value is absolute', (t) => {
  t.is(hex(new Assembler(32, 0x1000).movLabel(Reg.si, 'x').label('x').build()), 'be05100000')
})

test('mistakes are named', (t) => {
  t.throws(() => new Assembler(16).jmp('nowhere').build(), { message: /nowhere is not defined/ })
  t.throws(() => new Assembler(16).label('a').label('a'), { message: /defined twice/ })
  t.throws(() => new Assembler(32).movImm64(Reg.ax, 1), { message: /64-bit code/ })
  const far = new Assembler(16)
    .jmp('far')
    .db(...Array.from({ length: 200 }, () => 0x90))
    .label('far')
  t.throws(() => far.build(), { message: /short jump/ })
})
