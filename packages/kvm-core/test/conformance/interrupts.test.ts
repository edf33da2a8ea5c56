// Interrupts from every source, taken in HLT and outside it.
import { ExitReason, KVM_RUN } from '../../src/index.ts'
import { Reg } from '../../src/testing/index.ts'
import {
  APIC,
  conformIn32And64,
  enableApic,
  guest,
  handle,
  inService,
  ioapicPin,
  isEmulation,
  lastPort,
  notCompared,
  poke,
  serve,
  written,
} from './engines.ts'

const READY = 0x11
const TAKEN = 0x12
const until =
  (port: number) =>
  (log: Parameters<typeof lastPort>[0]): boolean =>
    lastPort(log) === port

conformIn32And64('interrupts: PIC through the LINT0 of the boot processor', (t, kvm, bits) => {
  const g = guest(
    t,
    kvm,
    bits,
    (a) => {
      // ICW1 to ICW4: vectors from 0x20; only IRQ 3 is unmasked.
      for (const [port, value] of [
        [0x20, 0x11],
        [0x21, 0x20],
        [0x21, 0x04],
        [0x21, 0x01],
        [0x21, 0xf7],
      ] as const) {
        a.movImm8(Reg.ax, value).outImm8(port)
      }
      return a.outImm8(READY).sti().label('x').hlt().jmp('x')
    },
    { irqchip: true },
  )
  handle(g, { 0x23: (a) => a.movImm8(Reg.ax, 0x20).outImm8(0x20).outImm8(TAKEN) })
  serve(g, undefined, until(READY))
  for (let i = 0; i < 2; i++) {
    g.vm.irqLine(3, 1)
    t.deepEqual(written(serve(g, undefined, until(TAKEN)).log), ['12=20'])
    g.vm.irqLine(3, 0)
  }
})

conformIn32And64('interrupts: IOAPIC, edge', (t, kvm, bits) => {
  const g = guest(
    t,
    kvm,
    bits,
    (a) => ioapicPin(enableApic(a), 5, 0x45).outImm8(READY).sti().label('x').hlt().jmp('x'),
    { irqchip: true },
  )
  handle(g, { 0x45: (a) => poke(a.outImm8(TAKEN), APIC + 0xb0, 0) })
  serve(g, undefined, until(READY))
  for (let i = 0; i < 2; i++) {
    g.vm.irqLine(5, 1)
    t.is(lastPort(serve(g, undefined, until(TAKEN)).log), TAKEN)
    g.vm.irqLine(5, 0)
  }
})

conformIn32And64('interrupts: a level stays until the device lowers it', (t, kvm, bits) => {
  const g = guest(
    t,
    kvm,
    bits,
    (a) => ioapicPin(enableApic(a), 10, 0x804a).outImm8(READY).sti().label('x').hlt().jmp('x'),
    { irqchip: true },
  )
  handle(g, { 0x4a: (a) => poke(a.outImm8(TAKEN), APIC + 0xb0, 0) })
  serve(g, undefined, until(READY))
  g.vm.irqLine(10, 1)
  t.is(lastPort(serve(g, undefined, until(TAKEN)).log), TAKEN)
  if (isEmulation(kvm) && !inService(g.vcpu, 0x4a)) {
    return notCompared(t, 'ends an interrupt as it delivers it')
  }
  t.true(inService(g.vcpu, 0x4a))
  let taken = 1
  serve(g, undefined, () => {
    if (++taken === 3) g.vm.irqLine(10, 0)
    return taken === 3
  })
  t.is(taken, 3)
  t.is(g.vcpu.runSync({ timeoutMs: 20 }), ExitReason.Intr, 'it sleeps: no fourth one')
})

conformIn32And64('interrupts: timer of the local APIC', (t, kvm, bits) => {
  const g = guest(
    t,
    kvm,
    bits,
    (a) => {
      enableApic(a)
      poke(a, APIC + 0x320, 0x50)
      poke(a, APIC + 0x3e0, 0xb)
      poke(a, APIC + 0x380, 100_000)
      return a.sti().label('x').hlt().jmp('x')
    },
    { irqchip: true },
  )
  handle(g, { 0x50: (a) => a.outImm8(TAKEN) })
  t.is(lastPort(serve(g, undefined, until(TAKEN)).log), TAKEN)
})

conformIn32And64('interrupts: MSI', (t, kvm, bits) => {
  const g = guest(
    t,
    kvm,
    bits,
    (a) => enableApic(a).outImm8(READY).sti().label('x').hlt().jmp('x'),
    {
      irqchip: true,
    },
  )
  handle(g, { 0x61: (a) => poke(a.outImm8(TAKEN), APIC + 0xb0, 0) })
  serve(g, undefined, until(READY))
  g.vm.signalMsi(APIC, 0x61)
  t.is(lastPort(serve(g, undefined, until(TAKEN)).log), TAKEN)
  // The same by a GSI that is routed to a message.
  g.vm.setGsiRouting([{ gsi: 40, type: 'msi', addr: APIC, data: 0x61 }])
  using irqfd = g.vm.irqfd(40)
  irqfd.trigger()
  t.is(lastPort(serve(g, undefined, until(TAKEN)).log), TAKEN)
})

conformIn32And64(
  'interrupts: NMI is taken with interrupts off, and once at a time',
  (t, kvm, bits) => {
    const g = guest(t, kvm, bits, (a) => a.outImm8(READY).label('x').jmp('x'), { irqchip: true })
    handle(g, { 2: (a) => a.outImm8(TAKEN) })
    serve(g, undefined, until(READY))
    g.vcpu.nmi()
    const { log } = serve(g, undefined, until(TAKEN))
    t.is(log.length, 1)
    t.is(g.vcpu.runSync({ timeoutMs: 20 }), ExitReason.Intr)
  },
)

conformIn32And64('interrupts: the window that userspace waits for', (t, kvm, bits) => {
  const g = guest(t, kvm, bits, (a) => a.cli().outImm8(READY).sti().nop().label('x').jmp('x'))
  handle(g, { 0x30: (a) => a.outImm8(TAKEN) })
  serve(g, undefined, until(READY))
  t.is(g.run.getUint8(KVM_RUN.ifFlag), 0)
  g.run.setUint8(KVM_RUN.requestInterruptWindow, 1)
  t.is(g.vcpu.runSync({ timeoutMs: 5000 }), ExitReason.IrqWindowOpen)
  t.is(g.run.getUint8(KVM_RUN.readyForInterruptInjection), 1)
  t.is(g.run.getUint8(KVM_RUN.ifFlag), 1)
  g.run.setUint8(KVM_RUN.requestInterruptWindow, 0)
  g.vcpu.interrupt(0x30)
  t.is(lastPort(serve(g, undefined, until(TAKEN)).log), TAKEN)
})
