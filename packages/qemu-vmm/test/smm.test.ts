// System management mode: where its RAM is seen, who is interrupted, what firmware can lock, and flash that only it writes.
import { rmSync } from 'node:fs'
import test from 'ava'
import { open } from 'kvm-core'
import { VirtualMachine } from 'qemu-vmm'
import type { MachineConfig } from 'qemu-vmm'

import { NO_SMRAM } from '../src/chipset/smm.ts'
import type { SmramView } from '../src/chipset/smm.ts'
import { SmiFeatures } from '../src/chipset/smi-features.ts'
import { FwCfg } from '../src/chipset/fw-cfg.ts'
import { DeviceRams } from '../src/machine/device-ram.ts'
import { createGuestRam } from '../src/machine/ram.ts'
import { Smram } from '../src/machine/smram.ts'
import { ManualClock } from '../src/machine/clock.ts'
import { IrqLines } from '../src/machine/irq.ts'
import { createMemoryMap } from '../src/machine/memory-map.ts'
import type { BoardKind } from '../src/machine/machine-type.ts'
import { PcBoard } from '../src/machine/pc.ts'
import { cpuPlaces } from './support/cpu-places.ts'
import { BiosCode, biosImage } from './support/bios.ts'
import { scratchFolder, writeImage } from './support/images.ts'
import { hasPeer, startPeer } from './support/qtest.ts'
import { FlatRam } from './support/ram.ts'
import { words } from './support/random.ts'

const MIB = 1 << 20
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

interface Fixture {
  board: PcBoard
  views: SmramView[]
  interrupts: (number | 'all')[]
  /** Configuration space by ports. */
  get(slot: number, fn: number, at: number): number
  set(slot: number, fn: number, at: number, value: number): void
}

function create(kind: BoardKind, memory = 64 * MIB, smbaseSmram = true): Fixture {
  const views: SmramView[] = []
  const interrupts: (number | 'all')[] = []
  const board = new PcBoard({
    kind,
    irqs: new IrqLines(() => {}),
    clock: new ManualClock(),
    map: createMemoryMap(memory, kind),
    places: cpuPlaces(2),
    memory: new FlatRam(1 << 20),
    serial: [],
    smbaseSmram,
    smm: { show: (view) => views.push(view), interrupt: (who) => interrupts.push(who) },
    actions: { reset() {}, powerOff() {}, suspend() {}, wake() {}, clockSet() {} },
  })
  board.reset()
  const select = (slot: number, fn: number, at: number): number => {
    board.bus.pio.write(0xcf8, 4, 0x8000_0000 + slot * 0x800 + fn * 0x100 + (at & 0xfc))
    return 0xcfc + (at & 3)
  }
  return {
    board,
    views,
    interrupts,
    get: (slot, fn, at) => board.bus.pio.read(select(slot, fn, at), 1),
    set: (slot, fn, at, value) => board.bus.pio.write(select(slot, fn, at), 1, value),
  }
}

const OPEN = 0x40
const LOCK = 0x10
const ENABLE = 0x08

test('the registers of both host bridges say where the RAM is seen', (t) => {
  const pc = create('i440fx')
  pc.set(0, 0, 0x72, OPEN | ENABLE)
  t.deepEqual(pc.views.at(-1), { ...NO_SMRAM, low: true, openLow: true })
  pc.set(0, 0, 0x72, LOCK | OPEN | ENABLE)
  t.deepEqual(pc.views.at(-1), { ...NO_SMRAM, low: true }, 'locked and open it cannot be')
  pc.set(0, 0, 0x72, OPEN)
  t.deepEqual(pc.views.at(-1), { ...NO_SMRAM, low: true })
  pc.board.reset()
  t.deepEqual(pc.views.at(-1), NO_SMRAM)
  pc.set(0, 0, 0x72, OPEN)
  t.deepEqual(pc.views.at(-1), { ...NO_SMRAM, openLow: true }, 'a reset unlocks')

  const q35 = create('q35')
  q35.set(0, 0, 0x9d, ENABLE)
  for (const [esmram, topBytes] of [
    [1, MIB],
    [3, 2 * MIB],
    [5, 8 * MIB],
    [7, 16 * MIB],
    [6, 0],
  ] as const) {
    q35.set(0, 0, 0x9e, esmram)
    t.deepEqual(q35.views.at(-1), { ...NO_SMRAM, low: true, topBytes })
  }
  q35.set(0, 0, 0x9e, 0x81)
  q35.set(0, 0, 0x9d, ENABLE | OPEN)
  t.deepEqual(q35.views.at(-1), { ...NO_SMRAM, high: true, openHigh: true, topBytes: MIB })
  q35.set(0, 0, 0x9d, ENABLE | LOCK)
  q35.set(0, 0, 0x9e, 0)
  t.deepEqual(q35.views.at(-1), { ...NO_SMRAM, high: true, topBytes: MIB })
})

test('RAM around the first SMBASE is for the mode once its firmware has asked and locked it', (t) => {
  const q35 = create('q35')
  const base = (value: number): number => {
    q35.set(0, 0, 0x9c, value)
    return q35.get(0, 0, 0x9c)
  }
  t.is(base(2), 0, 'nobody has asked')
  t.is(base(0xff), 1, 'it is there')
  t.is(base(0xfd), 1)
  t.falsy(q35.views.at(-1)?.atBase)
  const asked = structuredClone(q35.board.save())
  t.is(base(2), 2)
  t.true(q35.views.at(-1)?.atBase)
  t.is(base(0xff), 2, 'until reset')
  const locked = structuredClone(q35.board.save())
  q35.board.load(asked)
  t.is(q35.get(0, 0, 0x9c), 1)
  t.false(q35.views.at(-1)?.atBase)
  t.is(base(3), 2)
  q35.board.reset()
  t.is(q35.get(0, 0, 0x9c), 0)
  t.false(q35.views.at(-1)?.atBase)
  q35.board.load(locked)
  t.true(q35.views.at(-1)?.atBase)
  t.is(base(0), 2)
  const without = create('q35', 64 * MIB, false)
  without.set(0, 0, 0x9c, 0xff)
  t.is(without.get(0, 0, 0x9c), 0, 'a machine of before has no such register')
})

test('a saved board has what was locked, and one that was locked takes an open state', (t) => {
  const locked = create('q35')
  locked.set(0, 0, 0x9e, 0x07)
  const open = structuredClone(locked.board.save())
  locked.set(0, 0, 0x9d, LOCK | ENABLE)
  const other = create('q35')
  other.board.load(structuredClone(locked.board.save()))
  t.deepEqual(other.views.at(-1), { ...NO_SMRAM, low: true, topBytes: 16 * MIB })
  other.set(0, 0, 0x9e, 0)
  t.is(other.views.at(-1)?.topBytes, 16 * MIB)
  other.board.load(open)
  t.deepEqual(other.views.at(-1), NO_SMRAM)
  other.set(0, 0, 0x9d, ENABLE)
  t.is(other.views.at(-1)?.topBytes, 16 * MIB)
})

/** A question, the lock, and what is neither. */
const BASE_VALUES = [0xff, 0xff, 0x02, 0x03, 0x01, 0x00, 0x80] as const
const compare = hasPeer ? test : test.skip
compare('q35: any writes leave the registers as on QEMU, and RAM where it has it', async (t) => {
  const end = 64 * MIB
  const registers = [0x9c, 0x9d, 0x9e, 0x50, 0x51] as const
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    const { views, get, set } = create('q35')
    const peer = startPeer('-M', 'q35,smm=on', '-m', '64', '-device', 'VGA')
    try {
      const random = words(seed)
      for (let step = 0; step < 40; step++) {
        const at = registers[(random() >>> 8) % registers.length]!
        // The lock late, or nothing happens any more.
        const any = random() & (step < 30 ? 0xef : 0xff)
        // Few bytes say anything about the RAM around the first SMBASE.
        const value = at === 0x9c ? BASE_VALUES[any % BASE_VALUES.length]! : any
        await peer.ask(`outl 0xcf8 ${0x8000_0000 + (at & 0xfc)}`)
        await peer.ask(`outb ${0xcfc + (at & 3)} ${value}`)
        set(0, 0, at, value)
        for (const register of registers) {
          await peer.ask(`outl 0xcf8 ${0x8000_0000 + (register & 0xfc)}`)
          const theirs = Number(await peer.ask(`inb ${0xcfc + (register & 3)}`))
          t.is(get(0, 0, register), theirs, `seed ${seed}, step ${step}`)
        }
        const view = views.at(-1) ?? NO_SMRAM
        for (const [address, hidden] of [
          [end - 4, view.topBytes > 0],
          [end - 12 * MIB, view.topBytes > 12 * MIB],
          [0x3_0000, view.atBase],
          [0x4_fffc, view.atBase],
          [0x2_fffc, false],
          [0x5_0000, false],
          [0xa_0000, !view.openLow],
          [0xfeda_0000, !view.openHigh],
        ] as const) {
          // RAM keeps what is written to it, and video memory does not before a mode is set.
          await peer.ask(`writeb ${address} 0x5a`)
          t.is(Number(await peer.ask(`readb ${address}`)) !== 0x5a, hidden, `step ${step}`)
        }
      }
    } finally {
      peer.close()
    }
  }
})

test('the command port interrupts the processor that writes to it, or all where that was agreed', (t) => {
  const pc = create('i440fx')
  pc.board.bus.pio.write(0xb2, 1, 5)
  t.deepEqual(pc.interrupts, [], 'not before it is enabled')
  pc.set(1, 3, 0x5b, 2)
  pc.board.bus.vcpu = 1
  pc.board.bus.pio.write(0xb2, 1, 5)
  t.deepEqual(pc.interrupts, [0], 'the pin goes to the first')

  const { board, interrupts, set } = create('q35')
  const { pio } = board.bus
  set(0x1f, 0, 0x41, 0x06)
  set(0x1f, 0, 0x44, 0x80)
  t.is(pio.read(0x630, 4), 0)
  pio.write(0x630, 4, 0x21)
  board.bus.vcpu = 1
  pio.write(0xb2, 1, 5)
  t.deepEqual(interrupts, [1])
  set(0x1f, 0, 0xa0, 0x10)
  pio.write(0x630, 4, 0x20)
  t.is(pio.read(0x630, 4), 0x21, 'what is locked stays')
  set(0x1f, 0, 0xa0, 0)
  t.is(board.chipset.fwCfgFiles.length, 3)
})

test('firmware asks for features by fw_cfg, and cannot take more than there is', (t) => {
  const features = new SmiFeatures()
  const memory = new FlatRam(1 << 16)
  const device = new FwCfg(memory, new Map(), features.files)
  const key = (name: string): number =>
    0x20 +
    features.files
      .map((file) => file.name)
      .toSorted()
      .indexOf(`etc/smi/${name}`)
  const dma = (control: number, length: number): number => {
    const block = new DataView(new ArrayBuffer(16))
    block.setUint32(0, control)
    block.setUint32(4, length)
    block.setUint32(12, 0x2000)
    memory.write(0x1000, new Uint8Array(block.buffer))
    device.write(4, 4, 0)
    device.write(8, 4, 0x0010_0000)
    memory.read(0x1000, new Uint8Array(block.buffer))
    return block.getUint32(0)
  }
  const request = (byte: number, length = 8): number => {
    memory.write(0x2000, Uint8Array.of(byte, 0, 0, 0, 0, 0, 0, 0, 0))
    return dma((key('requested-features') << 16) | 0x18, length)
  }
  const accepted = (): number => {
    device.write(0, 2, key('features-ok'))
    return device.read(1, 1)
  }
  t.is(request(2), 0)
  t.is(accepted(), 0, 'there is no such feature')
  t.is(request(1, 9), 1, 'longer than the file')
  t.is(dma((key('features-ok') << 16) | 0x18, 1), 1, 'not to be written')
  t.is(request(1), 0)
  t.false(features.broadcast)
  t.is(accepted(), 1)
  t.true(features.broadcast)
  t.is(request(0), 1, 'agreed until reset')
  const other = new SmiFeatures()
  other.load(structuredClone(features.save()))
  t.true(other.broadcast)
  features.reset()
  t.false(features.broadcast)
  t.is(request(0), 0)
})

test('video memory makes room for the RAM, and comes back', async (t) => {
  const kvm = open({ engine: 'soft' })
  const vm = kvm.createVm()
  t.teardown(() => vm.close())
  const map = createMemoryMap(64 * MIB, 'q35')
  const ram = createGuestRam(vm, map, undefined)
  const rams = new DeviceRams(vm)
  const video = rams.create(64 << 10)
  const smram = new Smram(vm, ram, map, rams)
  const at = (gpa: number): string => {
    const byte = new Uint8Array(1)
    try {
      vm.memory.read(gpa, byte)
      return String.fromCharCode(byte[0]!)
    } catch {
      return 'none'
    }
  }
  const bytes = new Uint8Array(ram.segment(0))
  for (const gpa of [0xa_0000, 60 * MIB]) bytes[gpa] = 'r'.charCodeAt(0)
  video.bytes.fill('v'.charCodeAt(0))
  t.true(video.show(0, 0xa_0000))
  t.is(at(0xa_0000), 'v')
  smram.show({ ...NO_SMRAM, low: true, openLow: true })
  t.is(at(0xa_0000), 'r')
  // Shown while it is covered, it is seen afterwards.
  t.true(video.show(0, 0xa_0000))
  t.is(at(0xa_0000), 'r')
  smram.show({ ...NO_SMRAM, low: true })
  t.is(at(0xa_0000), 'v')
  t.true(video.show(0, 0xfeda_0000))
  smram.show({ ...NO_SMRAM, high: true, openHigh: true })
  t.is(at(0xfeda_0000), 'r')
  smram.show(NO_SMRAM)
  t.is(at(0xfeda_0000), 'v')

  for (const gpa of [0x2_ffff, 0x3_0000, 0x4_ffff, 0x5_0000, 0x9_fff0]) {
    bytes[gpa] = 'r'.charCodeAt(0)
  }
  const around = (): string => [0x2_ffff, 0x3_0000, 0x4_ffff, 0x5_0000, 0x9_fff0].map(at).join(' ')
  smram.show({ ...NO_SMRAM, atBase: true })
  t.is(around(), 'r none none r r')
  video.show(0, 0x4_0000)
  t.is(at(0x4_0000), 'none')
  video.show(0, undefined)
  smram.show(NO_SMRAM)
  t.is(around(), 'r r r r r')

  // In RAM that the mode alone sees there is nothing for a guest to put.
  t.is(at(60 * MIB), 'r')
  smram.show({ ...NO_SMRAM, topBytes: 8 * MIB })
  t.is(at(60 * MIB), 'none')
  video.show(0, 60 * MIB)
  t.is(at(60 * MIB), 'none')
  smram.show({ ...NO_SMRAM, topBytes: MIB })
  t.is(at(60 * MIB), 'r')
  smram.show(NO_SMRAM)
  t.is(at(60 * MIB), 'r')
  t.is(video.takeDirty().length, 2)
  rams.close()
})

const EXIT: NonNullable<MachineConfig['plug']> = [
  { driver: 'isa-debug-exit', properties: { iobase: '0x501', iosize: '1' } },
]

test('a handler runs in RAM that nobody else sees, and the guest goes on', async (t) => {
  const letter = (text: string): number => text.charCodeAt(0)
  // In the handler: a letter from its own RAM to COM1, then RSM.
  const handler = [
    0xb8, 0x00, 0xa0, 0x8e, 0xd8, 0xa0, 0x00, 0x10, 0xba, 0xf8, 0x03, 0xee, 0x0f, 0xaa,
  ]
  const code = new BiosCode().configWrite(0, 0, 0x72, OPEN | ENABLE).dataSegment(0xa000)
  code.store(0x1000, letter('s')).send(0x1000).dataSegment(0x3000)
  for (const [i, byte] of handler.entries()) code.store(0x8000 + i, byte)
  code.configWrite(0, 0, 0x72, LOCK | ENABLE).configWrite(1, 3, 0x5b, 2)
  code.dataSegment(0xa000).outb(0xb2, 1).store(0x1000, letter('x')).outb(0xb2, 2)
  const bios = writeImage(folder, 'bios', biosImage(128 << 10, 0, 0xe000, code.exit(3)))
  const machine = { type: 'pc', options: { smm: true } } as const
  const common = { memory: 16 * MIB, bios, plug: EXIT, log: () => {}, machine } as const
  await using vm = await VirtualMachine.start({ ...common, accel: 'tcg' })
  t.like(await vm.exited, { reason: 'shutdown', code: 7 })
  // Written by the guest outside, the letter is another's: there is no screen.
  t.regex(await vm.expect(/sss|x/).catch((error: Error) => error.message), /sss/)
})

test('flash that only the mode may write needs the mode', async (t) => {
  const options = { smm: false, secureFlash: true }
  const start = VirtualMachine.start({
    memory: 16 * MIB,
    accel: 'tcg',
    log: () => {},
    bios: writeImage(folder, 'plain', biosImage(128 << 10, 0, 0xe000, new BiosCode().exit(1))),
    machine: { type: 'q35', options },
  })
  await t.throwsAsync(start, { code: 'E_CONFIG', message: /use smm=on/ })
})
