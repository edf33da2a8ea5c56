import test, { type ExecutionContext } from 'ava'

import { ExitReason, KVM_RUN, KvmError, type ServeHandlers, type Vm } from '../src/index.ts'
import { Assembler, Cond, Reg } from '../src/testing/index.ts'
import { CODE, type Guest, RAM_BYTES, eventually, guest, kvm } from './guest.ts'

const io = (run: DataView): { write: boolean; port: number; data: number } => ({
  write: run.getUint8(KVM_RUN.ioDirection) === 1,
  port: run.getUint16(KVM_RUN.ioPort, true),
  data: run.getUint32(KVM_RUN.pioData, true),
})

/** Serves exits in this isolate. */
function serve(vm: Vm, handlers: ServeHandlers): void {
  const host = vm.createDeviceHost(() => {
    host.serve(handlers)
  })
}

test('a thread hands its exits to the inline device host', async (t) => {
  const count = 20_000
  const code = (a: Assembler): Assembler =>
    a.movImm(Reg.cx, count).label('x').inImm8(0x20).outImm8(0x21).loop('x').outImm8(0x22).hlt()
  const { vm, vcpu, run } = guest(t, 16, code)
  const seen = { reads: 0, writes: 0, wrong: 0 }
  let timers = 0
  const timer = setInterval(() => timers++, 1)
  const start = performance.now()
  await new Promise<void>((resolve) => {
    serve(vm, {
      exit() {
        if (run.getUint32(KVM_RUN.exitReason, true) !== ExitReason.Io) return
        const { write, port, data } = io(run)
        if (port === 0x22) return resolve()
        if (!write) run.setUint8(KVM_RUN.pioData, ++seen.reads & 0xff)
        else if ((data & 0xff) !== (++seen.writes & 0xff)) seen.wrong++
      },
    })
    vcpu.start()
  })
  const ms = performance.now() - start
  clearInterval(timer)
  t.deepEqual(seen, { reads: count, writes: count, wrong: 0 })
  t.true(timers > 0, 'the event loop goes on under a flood of exits')
  t.throws(() => vcpu.start(), { code: 'EBUSY' })
  const { spinHits, spinMisses } = vcpu.stats()
  t.log(
    `${((ms * 1e6) / count / 2).toFixed(0)} ns per exit, ${spinHits} hits, ${spinMisses} misses`,
  )
  await vm.close()
  t.is(vcpu.state, 'closed')
  t.is(vcpu.run.byteLength, 0)
})

test('registers belong to the handler while its exit waits', async (t) => {
  const { vm, vcpu, run } = guest(t, 16, (a) => a.outImm8(1).label('x').jmp('x'))
  await new Promise<void>((resolve, reject) => {
    serve(vm, {
      exit() {
        try {
          t.is(vcpu.state, 'exit')
          t.is(io(run).port, 1)
          const regs = vcpu.getRegs()
          regs[1] = 7n
          // Whoever sets the registers says where the guest goes on: after the OUT.
          regs[16] = BigInt(CODE + 2)
          vcpu.setRegs(regs)
          resolve()
        } catch (error) {
          reject(error as Error)
        }
      },
    })
    vcpu.start()
  })
  await eventually('running', () => vcpu.state === 'running')
  t.throws(() => vcpu.getRegs(), { instanceOf: KvmError, code: 'EBUSY' })
  t.throws(() => vcpu.runSync(), { code: 'EBUSY' })
  await Promise.all([vcpu.pause(), vcpu.pause()])
  t.is(vcpu.state, 'paused')
  t.is(vcpu.getRegs()[1], 7n)
  await vcpu.pause()
  vcpu.resume()
  t.throws(() => vcpu.getRegs(), { code: 'EBUSY' })
  t.is(await vcpu.stop(), 'stopped')
  t.is(vcpu.state, 'idle')
  t.throws(() => vcpu.resume(), { code: 'EINVAL' })
  vcpu.start()
  t.is(vcpu.state, 'running')
  await vm.close()
})

test('a handler that throws does not lose the exit', async (t) => {
  const { vm, vcpu } = guest(t, 16, (a) => a.outImm8(1).outImm8(2).label('x').jmp('x'))
  const host = vm.createDeviceHost(() => undefined)
  vcpu.start()
  await eventually('the exit', () => vcpu.state === 'exit')
  const boom = (): never => {
    throw new Error('device')
  }
  t.throws(() => host.serve({ exit: boom }), { message: 'device' })
  t.is(vcpu.state, 'exit')
  t.true(host.complete(0))
  await eventually('the second exit', () => vcpu.stats().exits === 2)
  // Another host takes the place of the first and gets what waits.
  host.close()
  await new Promise<void>((resolve) => serve(vm, { exit: () => resolve() }))
  await vm.close()
})

test('a triple fault and a broken guest are exits of the device host', async (t) => {
  // lidt with a zero limit, then int3
  const { vm, vcpu, run } = guest(t, 32, (a) => a.db(0x0f, 0x01, 0x1d).value(0x5000, 4).db(0xcc))
  await new Promise<void>((resolve) => {
    serve(vm, {
      exit() {
        t.is(run.getUint32(KVM_RUN.exitReason, true), ExitReason.Shutdown)
        vm.memory.write(CODE, new Assembler(32, CODE).label('x').jmp('x').build())
        const regs = vcpu.getRegs()
        regs[16] = BigInt(CODE)
        vcpu.setRegs(regs)
        resolve()
      },
    })
    vcpu.start()
  })
  await eventually('it runs again', () => vcpu.state === 'running')
  await vm.close()
})

/** A guest that takes interrupts of line 5 and reports each through port 0x30. */
function interruptible(t: ExecutionContext): Guest {
  const out = (a: Assembler, port: number, value: number): Assembler =>
    a.movImm8(Reg.ax, value).outImm8(port)
  const g = guest(
    t,
    16,
    (a) => {
      for (const [port, value] of [
        [0x20, 0x11],
        [0x21, 0x20],
        [0x21, 4],
        [0x21, 1],
        [0x21, 0xdf],
      ] as const) {
        out(a, port, value)
      }
      a.outImm8(0x31).label('idle').sti().hlt().jmp('idle')
      a.align(16).label('handler').incReg(Reg.bx).outImm8(0x30)
      return out(a, 0x20, 0x20).iret()
    },
    { irqchip: true },
  )
  setHandler(g.vm)
  const lapic = g.vcpu.getLapic()
  const view = new DataView(lapic.buffer, lapic.byteOffset)
  view.setUint32(0xf0, 0x1ff, true)
  view.setUint32(0x350, 0x700, true)
  g.vcpu.setLapic(lapic)
  return g
}

/** Points vector 0x25 to the handler: the first `inc bx` at a multiple of 16. */
function setHandler(vm: Vm): void {
  const bytes = new Uint8Array(256)
  vm.memory.read(CODE, bytes)
  let at = 16
  while (bytes[at] !== 0x43 && !(bytes[at] === 0xff && bytes[at + 1] === 0xc3)) at += 16
  const vector = new DataView(new ArrayBuffer(4))
  vector.setUint16(0, CODE + at, true)
  vm.memory.write(0x25 * 4, new Uint8Array(vector.buffer))
}

test('irqfds wake a halted vCPU, by call and by eventfd', async (t) => {
  const { vm, vcpu, run } = interruptible(t)
  let [ready, taken] = [false, 0]
  serve(vm, {
    exit() {
      if (io(run).port === 0x31) ready = true
      if (io(run).port === 0x30) taken++
    },
  })
  vcpu.start()
  await eventually('ready', () => ready)
  const irq = vm.irqfd(5)
  for (let i = 1; i <= 20; i++) {
    irq.trigger()
    await eventually(`interrupt ${i}`, () => taken === i)
  }
  const { writeSync } = await import('node:fs')
  const one = new Uint8Array(8)
  one[0] = 1
  writeSync(irq.fd, one)
  await eventually('the interrupt of the eventfd', () => taken === 21)
  irq.close()
  irq.trigger()
  vm.irqLine(5, 1)
  await eventually('the interrupt of the line', () => taken === 22)
  vm.irqLine(5, 0)
  t.true(vcpu.stats().halts > 0)
  t.throws(() => vm.irqfd(5000), { code: 'EINVAL' })
  t.throws(() => vm.irqLine(5000, 1), { code: 'EINVAL' })
  await vm.close()
  t.throws(() => vm.irqLine(5, 1), { code: 'EBADF' })
})

test('a resampling irqfd tells its isolate', async (t) => {
  const { vm, vcpu, run } = interruptible(t)
  let [ready, taken, told] = [false, 0, 0]
  serve(vm, {
    exit() {
      if (io(run).port === 0x31) ready = true
      if (io(run).port === 0x30) taken++
    },
  })
  vcpu.start()
  await eventually('ready', () => ready)
  const irq = vm.irqfd(5, { resample: true, onResample: () => told++ })
  t.true(irq.resampleFd >= 0)
  irq.trigger()
  await eventually('the acknowledgement', () => told === 1)
  t.is(taken, 1)
  await vm.close()
})

/** Everything of a VM with one vCPU. */
function save(g: Guest): Record<string, unknown> & { ram: Uint8Array } {
  const { vm, vcpu } = g
  const ram = new Uint8Array(RAM_BYTES)
  vm.memory.read(0, ram)
  return {
    ram,
    regs: vcpu.getRegs(),
    sregs: vcpu.getSregs(),
    xsave: vcpu.getXsave(),
    events: vcpu.getVcpuEvents(),
    debug: vcpu.getDebugRegs(),
    mp: vcpu.getMpState(),
    lapic: vcpu.getLapic(),
    chips: [0, 1, 2].map((chip) => vm.getIrqchip(chip)),
    clock: vm.getClock(),
  }
}

function load(t: ExecutionContext, s: ReturnType<typeof save>): Guest {
  const g = guest(t, 16, (a) => a.hlt(), { irqchip: true })
  const { vm, vcpu } = g
  vm.memory.write(0, s.ram)
  vm.setClock({ clock: (s['clock'] as { clock: bigint }).clock })
  vcpu.setSregs(s['sregs'] as Uint8Array)
  vcpu.setRegs(s['regs'] as BigUint64Array)
  vcpu.setXsave(s['xsave'] as Uint8Array)
  vcpu.setVcpuEvents(s['events'] as Uint8Array)
  vcpu.setDebugRegs(s['debug'] as BigUint64Array)
  vcpu.setLapic(s['lapic'] as Uint8Array)
  for (const chip of s['chips'] as Uint8Array[]) vm.setIrqchip(chip)
  vcpu.setMpState(s['mp'] as number)
  return g
}

test('a guest saved at random points goes on in a new VM', async (t) => {
  // A pseudo-random sequence in BX and memory, told byte by byte; ends with port 0x41.
  const program = (a: Assembler): Assembler =>
    a
      .movImm(Reg.bx, 0x1234)
      .movImm(Reg.cx, 3000)
      .label('x')
      .db(0x69, 0xdb, 0x4d, 0x43) // imul bx, bx, 0x434d
      .db(0x81, 0xc3, 0x39, 0x30) // add bx, 0x3039
      .db(0x01, 0x1e, 0x00, 0x20) // add [0x2000], bx
      .db(0x88, 0xf8) // mov al, bh
      .outImm8(0x40)
      .db(0xe4, 0x42) // in al, 0x42
      .db(0x00, 0x06, 0x00, 0x20) // add [0x2000], al
      .decReg(Reg.cx)
      .jcc(Cond.nz, 'x')
      .outImm8(0x41)
      .label('end')
      .jmp('end')

  let ended = false
  /** Runs until there are so many outputs, or some more, or the guest ended. */
  const play = (g: Guest, output: number[], until: number): Promise<void> =>
    new Promise((resolve) => {
      serve(g.vm, {
        exit() {
          const { port, data, write } = io(g.run)
          if (!write) g.run.setUint8(KVM_RUN.pioData, output.length & 0xff)
          else if (port === 0x40) output.push(data & 0xff)
          ended ||= port === 0x41
          if (ended || output.length === until) resolve()
        },
      })
      g.vcpu.start()
    })

  const reference: number[] = []
  const whole = guest(t, 16, program, { irqchip: true })
  await play(whole, reference, Infinity)
  t.true(ended)
  const sum = whole.vm.memory.view(0x2000, 2).getUint16(0, true)
  await whole.vm.close()

  const output: number[] = []
  let g = guest(t, 16, program, { irqchip: true })
  let saves = 0
  ended = false
  for (;;) {
    await play(g, output, output.length + 1 + Math.floor(Math.random() * 400))
    await g.vcpu.pause()
    // It went on until it was parked.
    if (ended) break
    const state = save(g)
    await g.vm.close()
    g = load(t, state)
    saves++
  }
  t.true(saves > 3)
  t.deepEqual(output, reference)
  t.is(g.vm.memory.view(0x2000, 2).getUint16(0, true), sum)
  await g.vm.close()
})

test('a thread runs on the CPUs that it is given, without spinning if so asked', async (t) => {
  const { vm, vcpu } = guest(t, 16, (a) => a.inImm8(1).inImm8(1).label('x').jmp('x'))
  for (const affinity of [[5000], [1023]]) {
    t.throws(() => vcpu.start({ affinity }), { code: 'EINVAL' })
  }
  t.throws(() => vcpu.start({ spin: { maxUs: -1 } }), { code: 'EINVAL' })
  serve(vm, { exit: () => undefined })
  vcpu.start({ affinity: [0], spin: { maxUs: 0 } })
  await eventually('both exits', () => vcpu.stats().spinMisses === 2)
  t.is(vcpu.stats().spinHits, 0)
})

test('what needs an irqchip or comes too late is refused', async (t) => {
  const vm = kvm.createVm()
  t.throws(() => vm.createPit2(), { code: 'ENXIO' })
  t.throws(() => vm.irqfd(1), { code: 'ENXIO' })
  vm.createVcpu(3)
  t.deepEqual(vm.vcpus, [3])
  t.throws(() => vm.createVcpu(3), { code: 'EEXIST' })
  t.throws(() => vm.createVcpu(256), { code: 'EINVAL' })
  t.throws(() => vm.createVcpu(1.5), { code: 'EINVAL' })
  t.throws(() => vm.vcpu(0), { code: 'ENOENT' })
  t.throws(() => vm.createIrqchip(), { code: 'EINVAL' })
  const host = vm.createDeviceHost(() => undefined)
  t.throws(() => vm.createDeviceHost(() => undefined), { code: 'EBUSY' })
  t.throws(() => vm.createDeviceHost(() => undefined, { id: 64 }), { code: 'EINVAL' })
  t.is(host.control.byteLength > 4096, true)
  await vm.close()
  t.is(host.control.length, 0)
  t.is(vm.close(), vm.close())
  t.throws(() => vm.createVcpu(0), { code: 'EBADF' })
})
