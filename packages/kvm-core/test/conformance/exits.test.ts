// Why a vCPU leaves the guest, and what kvm_run says then.
import { ExitReason, GuestDebugFlag, KVM_RUN } from '../../src/index.ts'
import { Reg } from '../../src/testing/index.ts'
import {
  CODE,
  DEVICE,
  conform,
  conformIn32And64,
  guest,
  register,
  serve,
  written,
} from './engines.ts'

conform('exits: port writes of 1, 2 and 4 bytes', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) =>
    a
      .movImm(Reg.ax, 0x4433_2211)
      .movImm(Reg.dx, 0x500)
      .outDx8()
      .db(0x66, 0xef) // out dx, ax
      .outDx32()
      .hlt(),
  )
  const sizes: number[] = []
  for (;;) {
    if (g.vcpu.runSync() !== ExitReason.Io) break
    t.is(g.run.getUint32(KVM_RUN.ioCount, true), 1)
    t.is(g.run.getUint16(KVM_RUN.ioPort, true), 0x500)
    const size = g.run.getUint8(KVM_RUN.ioSize)
    const at = Number(g.run.getBigUint64(KVM_RUN.ioDataOffset, true))
    sizes.push(size, g.run.getUint8(at + size - 1))
  }
  t.deepEqual(sizes, [1, 0x11, 2, 0x22, 4, 0x44])
})

conform('exits: port reads replace no more than their size', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) =>
    a.movImm(Reg.ax, 0x1111_1111).movImm(Reg.dx, 0x500).inDx8().db(0x66, 0xed).hlt(),
  )
  t.is(serve(g, (port) => 0xa0 + (port & 0xf)).why, ExitReason.Hlt)
  t.is(register(g.vcpu, 0), 0x1111_a1a0n)
})

conform('exits: a sector of words fits into few exits, up and down', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) =>
    a
      .movImm(Reg.dx, 0x1f0)
      .movImm(Reg.di, 0x8000)
      .movImm(Reg.cx, 256)
      .db(0x66, 0xf3, 0x6d) // rep insw
      .db(0xfd) // std
      .movImm(Reg.di, 0x91fe)
      .movImm(Reg.cx, 256)
      .db(0x66, 0xf3, 0x6d)
      .hlt(),
  )
  let exits = 0
  let next = 0
  for (;;) {
    const why = g.vcpu.runSync({ timeoutMs: 20_000 })
    if (why !== ExitReason.Io) break
    exits++
    const count = g.run.getUint32(KVM_RUN.ioCount, true)
    const at = Number(g.run.getBigUint64(KVM_RUN.ioDataOffset, true))
    t.is(g.run.getUint8(KVM_RUN.ioSize), 2)
    t.true(count * 2 <= 4096)
    for (let i = 0; i < count; i++) g.run.setUint16(at + i * 2, next++, true)
  }
  t.is(next, 512)
  // KVM reads ahead in pieces of at most 1024 bytes.
  t.true(exits <= 8, `${exits} exits`)
  const up = g.vm.memory.view(0x8000, 512)
  const down = g.vm.memory.view(0x9000, 512)
  for (let i = 0; i < 256; i++) {
    t.is(up.getUint16(i * 2, true), i)
    t.is(down.getUint16(510 - i * 2, true), 256 + i)
  }
})

conform('exits: rep outsb and rep insb move every element in order', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) =>
    a
      .movImm(Reg.dx, 0x500)
      .movImm(Reg.si, 0x8000)
      .movImm(Reg.cx, 5)
      .db(0xf3, 0x6e) // rep outsb
      .movImm(Reg.di, 0x9000)
      .movImm(Reg.cx, 5)
      .db(0xf3, 0x6c) // rep insb
      .hlt(),
  )
  g.vm.memory.write(0x8000, Uint8Array.of(1, 2, 3, 4, 5))
  let next = 0x61
  const { why, log } = serve(g, () => next++)
  t.is(why, ExitReason.Hlt)
  t.deepEqual(written(log), ['500=1', '500=2', '500=3', '500=4', '500=5'])
  const view = g.vm.memory.view(0x9000, 5)
  t.deepEqual(
    [0, 1, 2, 3, 4].map((i) => view.getUint8(i)),
    [0x61, 0x62, 0x63, 0x64, 0x65],
  )
  t.is(register(g.vcpu, 2), 0n)
})

conform('exits: MMIO reads, writes and read-modify-writes', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) =>
    a
      .load(4, DEVICE)
      .store(2, DEVICE + 8)
      .movImm(Reg.bx, DEVICE + 16)
      .db(0x80, 0x03, 0x01) // add byte [ebx], 1
      .hlt(),
  )
  const { why, log } = serve(g, (addr) => addr & 0xff)
  t.is(why, ExitReason.Hlt)
  t.deepEqual(written(log), ['30000008=0', '30000009=1', '30000010=11'])
  t.is(register(g.vcpu, 0), 0x0302_0100n)
})

conform('exits: an MMIO access across two pages has all its bytes', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) =>
    a
      .movImm(Reg.ax, 0x4433_2211)
      .store(4, DEVICE + 0xffe)
      .load(4, DEVICE + 0x1ffd)
      .hlt(),
  )
  const { log } = serve(g, (addr) => addr & 0xff)
  t.deepEqual(written(log), ['30000ffe=11', '30000fff=22', '30001000=33', '30001001=44'])
  t.is(register(g.vcpu, 0), 0x00ff_fefdn)
})

conform('exits: an access half in RAM and half in a device', (t, kvm) => {
  const end = 0x20_0000
  const g = guest(t, kvm, 32, (a) =>
    a
      .movImm(Reg.ax, 0x4433_2211)
      .store(4, end - 2)
      .hlt(),
  )
  const { why, log } = serve(g)
  t.is(why, ExitReason.Hlt)
  t.deepEqual(written(log), ['200000=33', '200001=44'])
  t.is(g.vm.memory.view(end - 2, 2).getUint16(0, true), 0x2211)
})

conform('exits: HLT without an irqchip, and the entry after it', (t, kvm) => {
  const g = guest(t, kvm, 16, (a) => a.hlt().movImm8(Reg.ax, 7).hlt())
  t.is(g.vcpu.runSync(), ExitReason.Hlt)
  t.is(g.vcpu.runSync(), ExitReason.Hlt)
  t.is(register(g.vcpu, 0) & 0xffn, 7n)
})

conform('exits: a triple fault is a shutdown', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) => a.db(0x0f, 0x0b))
  t.is(serve(g).why, ExitReason.Shutdown)
})

conformIn32And64('exits: single steps and breakpoints of a debugger', (t, kvm, bits) => {
  const g = guest(t, kvm, bits, (a) => a.nop().nop().db(0xcc).hlt())
  g.vcpu.setGuestDebug({ control: GuestDebugFlag.Enable | GuestDebugFlag.Singlestep })
  t.is(g.vcpu.runSync(), ExitReason.Debug)
  t.is(register(g.vcpu, 16), BigInt(CODE + 1))
  g.vcpu.setGuestDebug({ control: GuestDebugFlag.Enable | GuestDebugFlag.UseSwBp })
  t.is(g.vcpu.runSync(), ExitReason.Debug)
  t.is(g.run.getUint32(KVM_RUN.debugException, true), 3)
  t.is(g.run.getBigUint64(KVM_RUN.debugPc, true), BigInt(CODE + 2))
})

conform('exits: immediate_exit and a kick end an entry with Intr', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) => a.label('x').incReg(Reg.bx).jmp('x'))
  g.run.setUint8(KVM_RUN.immediateExit, 1)
  const before = register(g.vcpu, 1)
  t.is(g.vcpu.runSync(), ExitReason.Intr)
  t.is(register(g.vcpu, 1), before, 'nothing was executed')
  g.run.setUint8(KVM_RUN.immediateExit, 0)
  g.vcpu.kick()
  t.is(g.vcpu.runSync(), ExitReason.Intr)
  t.is(g.vcpu.runSync({ timeoutMs: 5 }), ExitReason.Intr)
  t.true(register(g.vcpu, 1) > before)
})

conform('exits: immediate_exit completes the access that waits', (t, kvm) => {
  const g = guest(t, kvm, 32, (a) => a.inImm8(0x10).movImm(Reg.bx, 1).hlt())
  t.is(g.vcpu.runSync(), ExitReason.Io)
  g.run.setUint8(Number(g.run.getBigUint64(KVM_RUN.ioDataOffset, true)), 0x77)
  g.run.setUint8(KVM_RUN.immediateExit, 1)
  t.is(g.vcpu.runSync(), ExitReason.Intr)
  t.is(register(g.vcpu, 0) & 0xffn, 0x77n)
  t.is(register(g.vcpu, 16), BigInt(CODE + 2))
})
