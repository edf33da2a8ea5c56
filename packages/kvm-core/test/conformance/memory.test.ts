// Memslots and the dirty log.
import { ExitReason, KvmError, MemFlag } from '../../src/index.ts'
import { Reg } from '../../src/testing/index.ts'
import { RAM_BYTES, conform, guest, serve, written } from './engines.ts'

/** Numbers of the pages whose bit is set. */
function pages(bits: Uint8Array): number[] {
  return [...bits].flatMap((byte, i) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => ((byte >> bit) & 1) !== 0).map((bit) => i * 8 + bit),
  )
}

conform('memory: the dirty log names the pages that were written and no others', (t, kvm) => {
  const g = guest(
    t,
    kvm,
    32,
    (a) =>
      a
        .movImm(Reg.ax, 1)
        .load(4, 0x3_0000)
        .store(4, 0x4_0000)
        .store(4, 0x4_fffe)
        .outImm8(0x10)
        .store(1, 0x7_0123)
        .movImm(Reg.bx, 0x8_0000)
        .db(0xf0, 0xff, 0x03) // lock inc dword [ebx]
        .outImm8(0x10)
        .hlt(),
    { flags: MemFlag.LogDirtyPages },
  )
  g.vm.getDirtyLog(0)
  serve(g, undefined, () => true)
  t.deepEqual(pages(g.vm.getDirtyLog(0)), [0x40, 0x4f, 0x50])
  t.deepEqual(pages(g.vm.getDirtyLog(0)), [])
  serve(g, undefined, () => true)
  g.vm.memory.write(0x9_0ffc, new Uint8Array(8))
  t.deepEqual(pages(g.vm.getDirtyLog(0)), [0x70, 0x80, 0x90, 0x91])
})

conform('memory: with manual protection bits stay until they are cleared', (t, kvm) => {
  const g = guest(
    t,
    kvm,
    32,
    (a) => a.label('x').store(4, 0x4_0000).store(4, 0x5_0000).outImm8(0x10).jmp('x'),
    { flags: MemFlag.LogDirtyPages },
  )
  g.vm.getDirtyLog(0)
  g.vm.setManualDirtyLogProtect(true)
  serve(g, undefined, () => true)
  t.deepEqual(pages(g.vm.getDirtyLog(0)), [0x40, 0x50])
  t.deepEqual(pages(g.vm.getDirtyLog(0)), [0x40, 0x50])
  const bitmap = new Uint8Array(8)
  bitmap[0] = 1
  g.vm.clearDirtyLog({ slot: 0, firstPage: 0x40, numPages: 64, bitmap })
  t.deepEqual(pages(g.vm.getDirtyLog(0)), [0x50])
  serve(g, undefined, () => true)
  t.deepEqual(pages(g.vm.getDirtyLog(0)), [0x40, 0x50])
})

conform('memory: a read-only slot reads as RAM and writes as a device', (t, kvm) => {
  const rom = 0x80_0000
  const g = guest(
    t,
    kvm,
    32,
    (a) => a.load(4, rom).movImm(Reg.bx, rom).db(0x88, 0x43, 0x04).hlt(), // mov [ebx+4], al
  )
  const ram = g.vm.createRam({ size: 0x1000 })
  g.vm.setUserMemoryRegion({ slot: 7, gpa: rom, size: 0x1000, ram, flags: MemFlag.Readonly })
  g.vm.memory.write(rom, Uint8Array.of(0x5a, 0, 0, 0, 0x77))
  const { why, log } = serve(g)
  t.is(why, ExitReason.Hlt)
  t.deepEqual(written(log), ['800004=5a'])
  t.is(g.vm.memory.view(rom + 4, 1).getUint8(0), 0x77)
})

conform('memory: slots come, go and move under a guest', (t, kvm) => {
  const at = 0x80_0000
  const g = guest(t, kvm, 32, (a) => a.label('x').load(1, at).outImm8(0x10).jmp('x'))
  const ram = g.vm.createRam({ size: 0x2000 })
  const region = { slot: 3, gpa: at, size: 0x1000, ram }
  const seen = (): string[] =>
    written(
      serve(
        g,
        () => 0xee,
        (log) => log.at(-1)?.write === true,
      ).log,
    )
  t.deepEqual(seen(), ['10=ee'])
  g.vm.setUserMemoryRegion(region)
  g.vm.memory.write(at, Uint8Array.of(0x11))
  t.deepEqual(seen(), ['10=11'])
  g.vm.setUserMemoryRegion({ slot: 3, gpa: at, size: 0 })
  t.deepEqual(seen(), ['10=ee'])
  g.vm.setUserMemoryRegion({ ...region, gpa: at + 0x1000 })
  t.deepEqual(seen(), ['10=ee'])
})

conform('memory: impossible slots are refused with the name of the errno', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) => a.hlt())
  const ram = g.vm.createRam({ size: 0x4000 })
  const refused = (code: string, region: Partial<Parameters<typeof g.vm.setUserMemoryRegion>[0]>) =>
    t.throws(
      () => g.vm.setUserMemoryRegion({ slot: 5, gpa: RAM_BYTES, size: 0x1000, ram, ...region }),
      { instanceOf: KvmError, code },
    )
  refused('EEXIST', { gpa: RAM_BYTES - 0x1000 })
  refused('EINVAL', { gpa: RAM_BYTES + 1 })
  refused('EINVAL', { size: 0x800 })
  refused('EINVAL', { offset: 0x4000 })
  refused('EINVAL', { flags: 0x8000 })
  refused('EINVAL', { slot: 1 << 20 })
  t.throws(() => g.vm.getDirtyLog(0), { instanceOf: KvmError, code: 'ENOENT' })
})
