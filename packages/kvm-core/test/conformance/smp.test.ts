// Several vCPUs: start-up by INIT and SIPI, interrupts between them, and their states.
import { KVM_RUN, type Kvm, MpState, type Vm } from '../../src/index.ts'
import { Assembler, Reg } from '../../src/testing/index.ts'
import { APIC, conform, enableApic, guest, poke, register } from './engines.ts'

const AP_CODE = 0x8000

/** Runs all vCPUs on threads until `count` port writes came; the ports in order. */
async function ports(vm: Vm, count: number): Promise<number[]> {
  const seen: number[] = []
  await new Promise<void>((resolve) => {
    const host = vm.createDeviceHost(() =>
      host.serve({
        exit(_vcpu, run) {
          seen.push(new DataView(run).getUint16(KVM_RUN.ioPort, true))
          if (seen.length === count) resolve()
        },
      }),
    )
    for (const index of vm.vcpus) vm.vcpu(index).start()
  })
  return seen
}

/** INIT and SIPI to one APIC id, from 32-bit code. */
function startUp(a: Assembler, id: number): Assembler {
  for (const command of [0x4500, 0x4600 | (AP_CODE >> 12)]) {
    poke(a, APIC + 0x310, id << 24)
    poke(a, APIC + 0x300, command)
  }
  return a
}

for (const count of [2, 4]) {
  conform(`smp: the boot processor starts ${count - 1} others`, async (t, kvm: Kvm) => {
    const g = guest(
      t,
      kvm,
      32,
      (a) => {
        enableApic(a)
        for (let id = 1; id < count; id++) startUp(a, id)
        return a.label('x').hlt().jmp('x')
      },
      { irqchip: true, vcpus: count },
    )
    // In real mode: CPUID gives the APIC id, which names the port.
    const ap = new Assembler(16, 0)
      .db(0x66, 0xb8)
      .value(1, 4)
      .cpuid()
      .db(0x66, 0xc1, 0xeb, 24) // shr ebx, 24
      .db(0x89, 0xda) // mov dx, bx
      .db(0x81, 0xc2)
      .value(0x500, 2) // add dx, 0x500
      .outDx8()
      .label('x')
      .hlt()
      .jmp('x')
    g.vm.memory.write(AP_CODE, ap.build())
    for (let id = 1; id < count; id++) {
      t.is(g.vm.vcpu(id).getMpState(), MpState.Uninitialized)
    }
    const seen = await ports(g.vm, count - 1)
    t.deepEqual(
      seen.toSorted((a, b) => a - b),
      Array.from({ length: count - 1 }, (_, i) => 0x501 + i),
    )
    for (const index of g.vm.vcpus) {
      await g.vm.vcpu(index).pause()
      if (index !== 0) t.is(register(g.vm.vcpu(index), 3) & 0xffffn, BigInt(0x500 + index))
    }
  })
}

conform('smp: a vCPU without SIPI waits, and shows it', async (t, kvm) => {
  const g = guest(
    t,
    kvm,
    32,
    (a) => {
      enableApic(a)
      poke(a, APIC + 0x310, 1 << 24)
      poke(a, APIC + 0x300, 0x4500)
      return a.outImm8(0x10).label('x').hlt().jmp('x')
    },
    { irqchip: true, vcpus: 2 },
  )
  await ports(g.vm, 1)
  const ap = g.vm.vcpu(1)
  await ap.pause()
  t.is(ap.getMpState(), MpState.InitReceived)
  for (const state of [MpState.Uninitialized, MpState.InitReceived, MpState.Halted]) {
    ap.setMpState(state)
    t.is(ap.getMpState(), state)
  }
})

conform('smp: an atomic counter of two vCPUs loses nothing', async (t, kvm) => {
  const times = 20_000
  const counter = 0x9000
  const loop = (a: Assembler, port: number): Assembler =>
    a
      .movImm(Reg.cx, times)
      .label('again')
      .db(0xf0, 0xff, 0x05) // lock inc dword [counter]
      .value(counter, 4)
      .db(0x49) // dec ecx
      .db(0x75, 0xf6) // jnz again
      .outImm8(port)
      .label('x')
      .jmp('x')
  const g = guest(t, kvm, 32, (a) => loop(a, 0x10), { vcpus: 2 })
  const other = 0x7000
  g.vm.memory.write(other, loop(new Assembler(32, other), 0x11).build())
  const ap = g.vm.vcpu(1)
  ap.setSregs(g.vcpu.getSregs())
  const regs = g.vcpu.getRegs()
  regs[16] = BigInt(other)
  ap.setRegs(regs)
  await ports(g.vm, 2)
  t.is(g.vm.memory.view(counter, 4).getUint32(0, true), 2 * times)
})
