// What the monitor shows of page tables, address spaces, devices and interrupt lines.
import test from 'ava'

import { addressRanges } from '../src/machine/address-ranges.ts'
import { Bus } from '../src/machine/bus.ts'
import { IrqLines } from '../src/machine/irq.ts'
import type { Manage } from '../src/machine/management.ts'
import { VirtualMachine } from '../src/machine/virtual-machine.ts'
import { FakeMachine, monitorOf } from './fixtures/fake-machine.ts'

const CR0 = 224
const CR3 = 240
const CR4 = 248
const EFER = 264

/** A processor with page tables in a little memory. */
class Paged extends FakeMachine {
  readonly ram: DataView = new DataView(new ArrayBuffer(1 << 16))
  override readonly manage: Manage = async (call, ...args) => {
    if (call !== 'readPhysical') throw new Error(`${call} is not expected`)
    const [gpa, length] = args as unknown as [bigint, number]
    if (Number(gpa) + length > this.ram.byteLength) return undefined as never
    return new Uint8Array(this.ram.buffer.slice(Number(gpa), Number(gpa) + length)) as never
  }

  set(cr0: bigint, cr3: bigint, cr4: bigint, efer: bigint): void {
    const view = new DataView(this.cpu.sregs.buffer)
    for (const [at, value] of [
      [CR0, cr0],
      [CR3, cr3],
      [CR4, cr4],
      [EFER, efer],
    ] as const) {
      view.setBigUint64(at, value, true)
    }
  }

  entry(gpa: number, value: bigint): void {
    this.ram.setBigUint64(gpa, value, true)
  }
}

const PG = 1n << 31n
const PAE = 1n << 5n
const LONG = 0x500n

test('info mem and tlb: four levels, with large pages and a high half', async (t) => {
  const machine = new Paged()
  const run = monitorOf(machine)
  t.is(await run('info tlb'), 'PG disabled\n')
  machine.set(PG | 1n, 0x1000n, PAE, LONG)
  machine.entry(0x1000, 0x2000n | 7n)
  machine.entry(0x1000 + 511 * 8, 0x2000n | 3n)
  machine.entry(0x2000, 0x3000n | 7n)
  machine.entry(0x2008, 0x4000_0000n | 0x83n)
  machine.entry(0x3000, 0x4000n | 5n)
  machine.entry(0x3008, (1n << 63n) | 0x0060_0000n | 0x1e7n)
  machine.entry(0x4000, 0x8000n | 0x67n)
  machine.entry(0x4008, 0x9000n | 0x25n)
  machine.entry(0x4018, 0xa000n | 0x3bn)
  const low = [
    '0000000000000000: 0000000000008000 ---DA--UW\n',
    '0000000000001000: 0000000000009000 ----A--U-\n',
    '0000000000003000: 000000000000a000 ----ACT-W\n',
    '0000000000200000: 0000000000600000 XGPDA--UW\n',
    '0000000040000000: 0000000040000000 --P-----W\n',
  ]
  const high = low.map((line) => `ffffff8${line.slice(7)}`)
  t.is(await run('info tlb'), [...low, ...high].join(''))
  t.is(
    await run('info mem'),
    [
      '0000000000000000-0000000000002000 0000000000002000 ur-\n',
      '0000000000003000-0000000000004000 0000000000001000 -r-\n',
      '0000000000200000-0000000000400000 0000000000200000 urw\n',
      '0000000040000000-0000000080000000 0000000040000000 -rw\n',
      'ffffff8000000000-ffffff8000002000 0000000000002000 -r-\n',
      'ffffff8000003000-ffffff8000004000 0000000000001000 -r-\n',
      'ffffff8000200000-ffffff8000400000 0000000000200000 -rw\n',
      'ffffff8040000000-ffffff8080000000 0000000040000000 -rw\n',
    ].join(''),
  )
})

test('info tlb: two levels of 32 bits, PAE, and tables outside memory', async (t) => {
  const machine = new Paged()
  const run = monitorOf(machine)
  machine.set(PG | 1n, 0x1000n, 0n, 0n)
  machine.ram.setUint32(0x1000, 0x2007, true)
  machine.ram.setUint32(0x1004, 0x0040_0087, true)
  machine.ram.setUint32(0x1008, 0x00ff_0007, true)
  machine.ram.setUint32(0x2004, 0x3067, true)
  t.is(await run('info tlb'), '0000000000001000: 0000000000003000 ---DA--UW\n')
  machine.set(PG | 1n, 0x1000n, 1n << 4n, 0n)
  const large = '0000000000400000: 0000000000400000 --P----UW\n'
  t.is(await run('info tlb'), `0000000000001000: 0000000000003000 ---DA--UW\n${large}`)
  t.regex(await run('info mem'), /^00001000-00002000 00001000 urw\n/)
  machine.set(PG | 1n, 0x5020n, PAE, 0n)
  machine.entry(0x5038, 0x6001n)
  machine.entry(0x6008, 0x7003n)
  machine.entry(0x7000, 0x8063n)
  t.is(await run('info tlb'), '00000000c0200000: 0000000000008000 ---DA---W\n')
})

test('info tlb: tables that refer to themselves are not followed without end', async (t) => {
  const machine = new Paged()
  machine.set(PG | 1n, 0x1000n, PAE, LONG)
  for (let i = 0; i < 512; i++) machine.entry(0x1000 + 8 * i, 0x1000n | 7n)
  const shown = await monitorOf(machine)('info tlb')
  t.regex(shown, /\nthe rest is left out: at most 4096 tables and 131072 pages are shown\n$/)
  t.true(shown.length < 8 << 20)
})

test('print: numbers and registers in each format', async (t) => {
  const machine = new FakeMachine()
  machine.cpu.regs[16] = 0xfff0n
  const run = monitorOf(machine)
  for (const [line, value] of [
    ['print 10', '0xa'],
    ['p/x 10', '0xa'],
    ['p /o 8', '010'],
    ['p /o 0', '0'],
    ['p/c 65', "'A'"],
    ['p /d -5', '-5'],
    ['p 1+2+0x10', '0x13'],
    ['p $rip', '0xfff0'],
    ['p/u 0xffffffffffffffff', '18446744073709551615'],
    ['p/d 0xffffffffffffffff', '-1'],
  ] as const) {
    t.is(await run(line), `${value}\n`, line)
  }
  t.regex(await run('p'), /^unexpected end of expression/)
  t.regex(await run('p/i 5'), /^invalid char in format: 'i'/)
  t.regex(await run('p $nope'), /^unknown register/)
  t.regex(await run('x/i 5'), /^there is no disassembler/)
})

test('what there is nothing for is refused with the reason', async (t) => {
  const run = monitorOf(new FakeMachine())
  t.regex(await run('savevm x'), /^Error: savevm: images keep no states/)
  t.regex(await run('info usb'), /^Error: info usb: there is no controller for USB/)
  t.regex(await run('constructor'), /^unknown command: 'constructor'/)
})

test('lines count how often devices have raised them', (t) => {
  const lines = new IrqLines(() => {})
  const [first, second, other] = [lines.source(5), lines.source(5), lines.source(3)]
  first.set(true)
  second.set(true)
  first.set(false)
  second.set(false)
  second.pulse()
  other.set(false)
  t.deepEqual(lines.rises(), [[5, 2]])
})

test('address ranges: slots of memory, devices, and the timer where there is one', (t) => {
  const bus = new Bus()
  const handler = { read: () => 0, write() {} }
  bus.pio.map({ name: 'rtc', base: 0x70, len: 2, handler })
  bus.mmio.map({ name: 'hpet', base: 0xfed0_0000, len: 0x400, handler })
  const slots = [
    { slot: 1, gpa: 0xf_0000, size: 0x1_0000, flags: 2 },
    { slot: 0, gpa: 0, size: 0xa_0000 },
  ]
  const vm = { userMemoryRegions: () => slots, getPit2: () => new Uint8Array(1) }
  const shown = addressRanges(vm, bus).map(
    ({ space, kind, base, name }) => `${space} ${kind} ${base.toString(16)} ${name}`,
  )
  for (const line of [
    'memory ram 0 slot 0',
    'memory rom f0000 slot 1',
    'memory i/o fed00000 hpet',
    'memory i/o fec00000 ioapic',
    'I/O i/o 70 rtc',
    'I/O i/o 40 pit',
  ]) {
    t.true(shown.includes(line), line)
  }
  const without = {
    ...vm,
    getPit2(): never {
      throw new Error('ENXIO')
    },
  }
  t.false(addressRanges(without, bus).some(({ name }) => name === 'pit'))
})

for (const type of ['pc', 'q35'] as const) {
  test(`${type}: what a machine has is in its trees`, async (t) => {
    const port = { driver: 'pcie-root-port', id: 'p', properties: { chassis: '1', slot: '1' } }
    const bus: Record<string, string> = type === 'q35' ? { bus: 'p' } : {}
    await using vm = new VirtualMachine({
      memory: 16 << 20,
      accel: 'tcg',
      machine: { type },
      startPaused: true,
      plug: [
        ...(type === 'q35' ? [port] : []),
        { driver: 'virtio-rng-pci', id: 'r', properties: bus },
        { driver: 'ide-cd', id: 'cd', properties: {} },
      ],
      log() {},
    })
    await vm.start()
    const run = monitorOf(vm)
    const tree = await run('info qtree')
    t.regex(tree, type === 'q35' ? /^bus: pcie\.0\n/ : /^bus: pci\.0\n/)
    t.regex(tree, /dev: virtio-rng-pci, id "r"\n[^]*pci id 1af4:10(05|44) \(sub 1af4:/)
    t.regex(tree, /not on PCI\n {2}dev: ide-cd, id "cd"\n/)
    if (type === 'q35') {
      t.regex(tree, /dev: pcie-root-port, id "p"\n[^]*\n {4}bus: p\n[^]*\n {6}dev: virtio-rng-pci/)
    }
    const ranges = await run('info mtree')
    t.regex(ranges, /^address-space: memory\n {2}0000000000000000-[0-9a-f]{16} \(prio 1, ram\): /)
    t.regex(ranges, /\(prio 1, rom\)/)
    t.regex(ranges, /\naddress-space: I\/O\n[^]*: rtc\n/)
    t.regex(await run('info irq'), /^IRQ statistics for the lines of devices:\n/)
    t.is(await run('info tlb'), 'PG disabled\n')
  })
}
