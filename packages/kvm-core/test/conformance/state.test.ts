// State out of one VM and into another: what was read can be written, and the guest goes on.
import { ExitReason, type Kvm, type Vcpu, type Vm } from '../../src/index.ts'
import { Cond, Reg } from '../../src/testing/index.ts'
import {
  APIC,
  type Guest,
  absolute,
  conform,
  conformIn32And64,
  enableApic,
  guest,
  handle,
  poke,
  serve,
  written,
} from './engines.ts'

/** MSRs that every engine has and a guest changes. */
const MSRS = [0x10, 0x174, 0x175, 0x176, 0x277, 0xc0000081, 0xc0000082, 0xc0000084, 0xc0000102]

function copyVcpu(from: Vcpu, to: Vcpu, irqchip: boolean): void {
  to.setCpuid2(from.getCpuid2())
  to.setSregs(from.getSregs())
  to.setRegs(from.getRegs())
  to.setXcrs(from.getXcrs())
  to.setXsave(from.getXsave())
  to.setDebugRegs(from.getDebugRegs())
  const values = from.getMsrs(MSRS)
  to.setMsrs(MSRS.map((index, i) => [index, values[i] ?? 0n] as const))
  to.setVcpuEvents(from.getVcpuEvents())
  if (irqchip) {
    to.setLapic(from.getLapic())
    to.setMpState(from.getMpState())
  }
}

/** A second VM that is where `from` is. */
function copy(
  t: Parameters<typeof guest>[0],
  kvm: Kvm,
  from: Guest,
  irqchip: boolean,
): Guest & { readonly vm: Vm } {
  const to = guest(t, kvm, from.bits, (a) => a.hlt(), { irqchip })
  const bytes = from.vm.memory.view(0, 0x10_0000)
  to.vm.memory.write(0, new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  if (irqchip) for (const chip of [0, 1, 2]) to.vm.setIrqchip(from.vm.getIrqchip(chip))
  to.vm.setClock({ clock: from.vm.getClock().clock })
  copyVcpu(from.vcpu, to.vcpu, irqchip)
  return to
}

conform('state: what is read can be written and read again', (t, kvm) => {
  const g = guest(t, kvm, 64, (a) => a.movImm64(Reg.ax, 0x1234_5678_9abcn).outImm8(0x10).hlt())
  serve(g, undefined, () => true)
  const other = guest(t, kvm, 64, (a) => a.hlt())
  copyVcpu(g.vcpu, other.vcpu, false)
  const all = (v: Vcpu): unknown[] => [
    v.getRegs(),
    v.getSregs(),
    v.getFpu(),
    v.getXsave(),
    v.getXcrs(),
    v.getDebugRegs(),
    v.getVcpuEvents(),
    v.getCpuid2(),
    v.getMsrs(MSRS.slice(1)),
  ]
  t.deepEqual(all(other.vcpu), all(g.vcpu))
})

conformIn32And64(
  'state: a guest goes on in a copy of its VM after each of its exits',
  (t, kvm, bits) => {
    // Sums of a loop with x87 and SSE state alive, one exit each round.
    const g = guest(t, kvm, bits, (a) => {
      a.db(0x0f, 0x20, 0xe0, 0x0d) // mov eax, cr4; or eax, OSFXSR
        .value(0x200, 4)
        .db(0x0f, 0x22, 0xe0) // mov cr4, eax
        .movImm(Reg.cx, 6)
        .movImm(Reg.bx, 0)
        .db(0xdb, 0xe3) // fninit
        .db(0xd9, 0xe8) // fld1
        .db(0x66, 0x0f, 0x6e, 0xc1) // movd xmm0, ecx
        .label('x')
        .db(0xdc, 0xc0) // fadd st(0), st(0)
        .db(0x66, 0x0f, 0xfe, 0xc0) // paddd xmm0, xmm0
        .db(0x01, 0xcb) // add ebx, ecx
        .outImm8(0x10)
        .db(0xff, 0xc9) // dec ecx
        .jcc(Cond.nz, 'x')
      absolute(a.db(0xdb), 3, 0x9000) // fistp dword [0x9000]
      return absolute(a.db(0x66, 0x0f, 0x7e), 0, 0x9004).hlt() // movd [0x9004], xmm0
    })
    let now = g
    for (let round = 0; round < 6; round++) {
      t.is(now.vcpu.runSync(), ExitReason.Io)
      // Complete the instruction, as one does before a save.
      now.vcpu.kick()
      t.is(now.vcpu.runSync(), ExitReason.Intr)
      now = copy(t, kvm, now, false)
    }
    t.is(now.vcpu.runSync(), ExitReason.Hlt)
    const view = now.vm.memory.view(0x9000, 8)
    t.deepEqual([view.getUint32(0, true), view.getUint32(4, true)], [64, 6 * 64])
    t.is(now.vcpu.getRegs()[1], 21n)
  },
)

conformIn32And64(
  'state: an interrupt that waits and a timer that runs come in the copy',
  (t, kvm, bits) => {
    const g = guest(
      t,
      kvm,
      bits,
      (a) => {
        enableApic(a)
        poke(a, APIC + 0x320, 0x50)
        poke(a, APIC + 0x3e0, 0xb)
        poke(a, APIC + 0x380, 2_000_000)
        return a.outImm8(0x11).nop().sti().label('x').hlt().jmp('x')
      },
      { irqchip: true },
    )
    handle(g, {
      0x50: (a) => poke(a.outImm8(0x12), APIC + 0xb0, 0),
      0x61: (a) => poke(a.outImm8(0x13), APIC + 0xb0, 0),
    })
    t.is(g.vcpu.runSync(), ExitReason.Io)
    g.vm.signalMsi(APIC, 0x61)
    g.vcpu.kick()
    t.is(g.vcpu.runSync(), ExitReason.Intr)
    const to = copy(t, kvm, g, true)
    const { log } = serve(to, undefined, (seen) => seen.length === 2)
    t.deepEqual(
      written(log)
        .map((byte) => byte.slice(0, 2))
        .toSorted(),
      ['12', '13'],
    )
  },
)

conform('state: impossible state is refused and changes nothing', (t, kvm) => {
  const g = guest(t, kvm, 64, (a) => a.hlt())
  const before = g.vcpu.getSregs()
  const bad = g.vcpu.getSregs()
  // CR0: paging without protection.
  new DataView(bad.buffer, bad.byteOffset).setBigUint64(8 * 24 + 32, 0x8000_0000n, true)
  t.throws(() => g.vcpu.setSregs(bad), { code: 'EINVAL' })
  t.deepEqual(g.vcpu.getSregs(), before)
  t.throws(() => g.vcpu.getMsrs([0x7fff_ffff]), { code: 'EINVAL' })
})
