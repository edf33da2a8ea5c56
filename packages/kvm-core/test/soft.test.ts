// Wishes for the software engine, and what it tells of its work.
import { closeSync, openSync, readFileSync, rmSync, symlinkSync } from 'node:fs'
import { pid } from 'node:process'
import test from 'ava'
import type { ExecutionContext } from 'ava'

import { ExitReason, KvmError, open } from '../src/index.ts'
import type { CodeStats, SoftOptions, Vcpu } from '../src/index.ts'
import { Assembler, Reg, enterProtected } from '../src/testing/index.ts'
import { CODE, eventually, guest } from './guest.ts'

const ramBytes = 4 << 20
const codeAt = 0x10_0000
const map = `/tmp/perf-${pid}.map`

/** A vCPU of an engine with these wishes that is about to execute `code` at 1 MiB. */
function softGuest(t: ExecutionContext, soft: SoftOptions, code: Uint8Array): Vcpu {
  const vm = open({ engine: 'soft', soft }).createVm()
  t.teardown(() => vm.close())
  const ram = vm.createRam({ size: ramBytes })
  vm.setUserMemoryRegion({ slot: 0, gpa: 0, size: ramBytes, ram })
  vm.memory.write(codeAt, code)
  const vcpu = vm.createVcpu(0)
  enterProtected(vm, vcpu, codeAt)
  return vcpu
}

const stats = (vcpu: Vcpu): CodeStats => {
  const { code } = vcpu.stats()
  if (code === undefined) throw new Error('the engine counts nothing')
  return code
}

const rounds = 60

/** Rounds through a chain of blocks with some accesses to memory each. */
function chain(blocks: number): Uint8Array {
  const code = new Assembler(32, codeAt).movImm(Reg.cx, rounds)
  const start = code.here
  for (let i = 0; i < blocks; i++) {
    for (let n = 0; n < 20; n++) code.db(0x83, 0x05).value(0x2000, 4).db(1) // add dword [0x2000], 1
    code.db(0x05).value(i, 4).db(0xeb, 0) // add eax, i; jmp to the next
  }
  code.db(0x49, 0x0f, 0x85).value(start - code.here - 4, 4) // dec ecx; jnz start
  return code.hlt().build()
}

test('wishes that cannot be met are refused', (t) => {
  for (const codeBytes of [0, -1, 0.5, Number.NaN, (1 << 20) - 1, 2 ** 30 + 1, 2 ** 60]) {
    const wish = (): unknown => open({ engine: 'soft', soft: { codeBytes } })
    t.is(t.throws(wish, { instanceOf: KvmError })?.code, 'EINVAL', String(codeBytes))
  }
  const host = t.throws(() => open({ engine: 'host', soft: {} }), { instanceOf: KvmError })
  t.is(host?.code, 'EINVAL')
})

test('translated code takes no more memory than it may', (t) => {
  const blocks = 3000
  const sum = (rounds * blocks * (blocks - 1)) / 2
  for (const [codeBytes, dropped] of [
    [1 << 20, true],
    [64 << 20, false],
  ] as const) {
    const vcpu = softGuest(t, { codeBytes }, chain(blocks))
    t.is(vcpu.runSync(), ExitReason.Hlt)
    t.is(Number(vcpu.getRegs()[0]), sum % 2 ** 32)
    t.is(stats(vcpu).codeResets > 0, dropped)
    t.true(stats(vcpu).codeBytes <= codeBytes)
  }
})

test.serial('the map for perf names code by privilege, kind and address', (t) => {
  const soft = { perfMap: true }
  rmSync(map, { force: true })
  const busy = openSync(map, 'w')
  const error = t.throws(() => open({ engine: 'soft', soft }), { instanceOf: KvmError })
  t.is(error?.code, 'EBUSY')
  t.regex(error?.message ?? '', /--perf-basic-prof/)
  closeSync(busy)
  rmSync(map)
  symlinkSync('/tmp/nowhere', map)
  t.is(t.throws(() => open({ engine: 'soft', soft }), { instanceOf: KvmError })?.code, 'EIO')
  rmSync(map)
  const vcpu = softGuest(t, soft, chain(10))
  t.is(vcpu.runSync(), ExitReason.Hlt)
  // What another engine of the process translates without the wish is not there.
  t.is(softGuest(t, {}, chain(10)).runSync(), ExitReason.Hlt)
  const lines = readFileSync(map, 'utf8').trimEnd().split('\n')
  rmSync(map)
  t.regex(lines[0] ?? '', /^[0-9a-f]+ [0-9a-f]+ guest-stubs$/)
  const regions = lines.slice(1)
  t.is(regions.length, stats(vcpu).translations)
  t.regex(regions.join('\n'), /^[0-9a-f]+ [0-9a-f]+ guest-kernel32 0x1000[0-9a-f]{2}$/m)
  const ranges = lines.map((line) => line.split(' ').map((word) => Number.parseInt(word, 16)))
  for (const [i, [start = 0, bytes = 0]] of ranges.entries()) {
    t.true(bytes > 0)
    t.true((ranges[i + 1]?.[0] ?? Infinity) >= start + bytes, 'no two overlap')
  }
})

test.serial('samples tell where the time goes', async (t) => {
  // mov ecx, 100 million; l: dec ecx; jnz l; mov al, 1; out 0x10, al; hlt
  const loop = (a: Assembler): Assembler =>
    a.movImm(Reg.cx, 100_000_000).db(0x49, 0x75, 0xfd).movImm8(Reg.ax, 1).outImm8(0x10).hlt()
  const { vcpu } = guest(t, 32, loop)
  t.is(vcpu.runSync(), ExitReason.Io)
  await eventually('the wait for the device is seen', () => stats(vcpu).deviceNs > 0)
  while (stats(vcpu).translatedNs === 0) {
    t.is(vcpu.runSync(), ExitReason.Hlt)
    const regs = vcpu.getRegs()
    regs[16] = BigInt(CODE)
    vcpu.setRegs(regs)
    t.is(vcpu.runSync(), ExitReason.Io)
  }
  t.is(stats(vcpu).helperNs, 0, 'nothing but the loop')
})
