// ioeventfd and irqfd: notifications without an exit.
import { readSync } from 'node:fs'
import { setTimeout } from 'node:timers/promises'

import { ExitReason } from '../../src/index.ts'
import { Reg } from '../../src/testing/index.ts'
import {
  APIC,
  DEVICE,
  conformIn32And64,
  enableApic,
  guest,
  handle,
  ioapicPin,
  lastPort,
  poke,
  serve,
  written,
} from './engines.ts'

conformIn32And64('events: ioeventfds match address, length and data', async (t, kvm, bits) => {
  const g = guest(t, kvm, bits, (a) => {
    for (const value of [1, 2, 3]) a.movImm(Reg.ax, value).store(4, DEVICE).store(2, DEVICE)
    return a
      .movImm(Reg.ax, 9)
      .store(1, DEVICE + 0x100)
      .store(4, DEVICE + 0x100)
      .outImm8(0x44)
      .hlt()
  })
  const { vm } = g
  const host = vm.createDeviceHost(() => undefined)
  const events = [
    vm.ioeventfd({ addr: DEVICE, len: 4, datamatch: 1 }, 1),
    vm.ioeventfd({ addr: DEVICE, len: 4, datamatch: 3n }, 3),
    vm.ioeventfd({ addr: DEVICE + 0x100, len: 0 }, 100),
    vm.ioeventfd({ addr: 0x44, len: 1, pio: true }, 44),
  ]
  t.throws(() => vm.ioeventfd({ addr: DEVICE, len: 4, datamatch: 1 }, 9), { code: 'EEXIST' })
  const signalled = new Set<number>()
  const log: string[] = []
  const take = (): void => {
    host.takeEvents()
    for (let id = host.takeIoEvent(); id >= 0; id = host.takeIoEvent()) signalled.add(id)
  }
  for (let left = 20; left > 0; left--) {
    const part = serve(g)
    log.push(...written(part.log))
    take()
    if (part.why !== ExitReason.Intr) break
  }
  // A kernel signals an eventfd, which a thread of the VM hands on in its own time.
  for (let left = 500; left > 0 && signalled.size < 4; left--) {
    await setTimeout(10)
    take()
  }
  t.deepEqual(
    [...signalled].toSorted((a, b) => a - b),
    [1, 3, 44, 100],
  )
  // What no ioeventfd matches exits: three short writes, and the long one of 2.
  t.deepEqual(
    log.map((byte) => byte.split('=')[1]),
    ['1', '0', '2', '0', '0', '0', '2', '0', '3', '0'],
  )
  for (const event of events) event.close()
  host.close()
})

conformIn32And64('events: an irqfd is an edge', (t, kvm, bits) => {
  const g = guest(
    t,
    kvm,
    bits,
    (a) => ioapicPin(enableApic(a), 6, 0x46).outImm8(0x11).sti().label('x').hlt().jmp('x'),
    { irqchip: true },
  )
  handle(g, { 0x46: (a) => poke(a.outImm8(0x12), APIC + 0xb0, 0) })
  serve(g, undefined, (log) => lastPort(log) === 0x11)
  using irqfd = g.vm.irqfd(6)
  for (let i = 0; i < 3; i++) {
    irqfd.trigger()
    t.is(lastPort(serve(g, undefined, () => true).log), 0x12)
    t.is(g.vcpu.runSync({ timeoutMs: 5 }), ExitReason.Intr, 'one interrupt for each')
  }
  t.throws(() => g.vm.irqfd(100_000), { code: 'EINVAL' })
})

conformIn32And64(
  'events: a resampling irqfd is a level until the guest acknowledges',
  (t, kvm, bits) => {
    const g = guest(
      t,
      kvm,
      bits,
      (a) => ioapicPin(enableApic(a), 11, 0x804b).outImm8(0x11).sti().label('x').hlt().jmp('x'),
      { irqchip: true },
    )
    handle(g, { 0x4b: (a) => poke(a.outImm8(0x12), APIC + 0xb0, 0) })
    serve(g, undefined, (log) => lastPort(log) === 0x11)
    using irqfd = g.vm.irqfd(11, { resample: true })
    const count = new Uint8Array(8)
    t.throws(() => readSync(irqfd.resampleFd, count), { code: 'EAGAIN' })
    for (let i = 0; i < 2; i++) {
      irqfd.trigger()
      t.is(lastPort(serve(g, undefined, () => true).log), 0x12)
      // The rest of the handler: EOI lowers the line and signals.
      t.is(g.vcpu.runSync({ timeoutMs: 20 }), ExitReason.Intr)
      t.is(readSync(irqfd.resampleFd, count), 8)
      t.is(count[0], 1)
    }
  },
)
