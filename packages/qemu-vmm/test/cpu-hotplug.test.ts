// The registers of CPU hot-plug, as a guest's AML uses them, and against QEMU, with hostile values.
import { rmSync } from 'node:fs'
import test from 'ava'

import {
  AcpiCpuHotplug,
  CPU_HOTPLUG_PORTS,
  PIIX4_CPU_HOTPLUG_PORT,
} from '../src/chipset/acpi-cpu-hotplug.ts'
import type { OstReport } from '../src/chipset/acpi-cpu-hotplug.ts'
import { freePlace } from '../src/machine/cpu-address.ts'
import type { CpuPlaces } from '../src/machine/cpu-places.ts'
import { cpuPlaces } from './support/cpu-places.ts'
import { scratchFolder } from './support/images.ts'
import { Peer, hasPeer } from './support/peer.ts'
import { words } from './support/random.ts'

const STEPS = process.env['LONG'] === undefined ? 2000 : 40_000
const FUZZ_STEPS = process.env['LONG'] === undefined ? 50_000 : 2_000_000
const compare = hasPeer() ? test.serial : test.skip
const DRIVER = 'qemu64-x86_64-cpu'
const SMP = { cpus: 2, sockets: 2, cores: 3, maxcpus: 6 }

interface Block {
  places: CpuPlaces
  registers: AcpiCpuHotplug
  raised: () => number
  reports: OstReport[]
}

function create(smp: Parameters<typeof cpuPlaces>[0] = SMP): Block {
  const places = cpuPlaces(smp)
  let raised = 0
  const registers = new AcpiCpuHotplug(places, () => raised++)
  const reports: OstReport[] = []
  registers.onEject = (index) => places.empty(index)
  registers.onOst = (report) => reports.push(report)
  return { places, registers, raised: () => raised, reports }
}

function plug({ places, registers }: Block, index: number): void {
  places.fill(index, { path: `/machine/peripheral/c${index}` })
  registers.plugged(index)
}

test('a machine begins with a bitmap by APIC id, until a zero is written to it', (t) => {
  const block = create()
  const { registers } = block
  // Three cores take four ids: the fourth processor has the id 4.
  plug(block, 3)
  t.is(registers.read(0, 1), 0b0001_0011)
  t.is(registers.read(0x1f, 1), 0)
  t.is(block.raised(), 1)
  registers.write(0, 1, 5)
  registers.write(4, 4, 0)
  t.false(registers.isModern)
  registers.write(0, 4, 0x1234_5600)
  t.true(registers.isModern)
  t.is(registers.read(0, 4), 0)
  t.is(registers.read(4, 1), 1, 'the first processor is selected, and there')
  t.is(registers.read(0x0c, 1) & 0xff, 0xff, 'nothing is behind the registers')
})

test('who came is found, told once, and let go of', (t) => {
  const block = create()
  const { registers, places } = block
  registers.write(0, 4, 0)
  plug(block, 4)
  registers.write(5, 1, 0)
  t.is(registers.read(8, 4), 4)
  t.is(registers.read(4, 1), 0b011)
  registers.write(4, 1, 0b010)
  t.is(registers.read(4, 1), 0b001)
  registers.write(5, 1, 3)
  t.is(registers.read(8, 4), 5, 'its APIC id')
  registers.requestUnplug(4)
  t.is(block.raised(), 2)
  t.is(registers.read(4, 1), 0b101)
  registers.write(4, 1, 0b100)
  registers.write(4, 1, 0b1000)
  t.is(registers.read(4, 1), 0)
  t.false(places.isPresent(4))
  // The first one stays, and one that is not there cannot go.
  registers.write(0, 4, 0)
  registers.write(4, 1, 0b1000)
  t.is(registers.read(4, 1), 1)
  registers.write(5, 1, 1)
  registers.write(8, 4, 0x103)
  registers.write(5, 1, 2)
  registers.write(8, 4, 0x84)
  t.deepEqual(block.reports, [{ index: 0, source: 0x103, status: 0x84 }])
  t.is(registers.reports().length, 6)
})

test('a place that is not there answers nothing, until one is selected that is', (t) => {
  const { registers } = create()
  registers.write(0, 4, 0)
  for (const bad of [6, 0xff, 0xffff_ffff]) {
    registers.write(0, 4, bad)
    for (const [offset, value] of [
      [4, 0x0e],
      [5, 0],
      [8, 7],
    ] as const) {
      registers.write(offset, 1, value)
      t.is(registers.read(offset, 4), 0)
    }
  }
  registers.write(0, 4, 1)
  t.is(registers.read(4, 1), 1)
})

test('no guest makes the registers throw, and what is saved is what is loaded', (t) => {
  const block = create()
  const { registers, places } = block
  const random = words(0xc0de)
  for (let i = 0; i < FUZZ_STEPS; i++) {
    const [offset, size] = [random() % CPU_HOTPLUG_PORTS, 1 << (random() % 3)]
    const value = random() % 2 ? random() : random() % 8
    if (random() % 3 === 0) {
      const read = registers.read(offset, size)
      if (!Number.isInteger(read) || read < 0) return t.fail(`step ${i} read ${read}`)
    } else registers.write(offset, size, value)
    const index = random() % 6
    if (random() % 16 === 0 && !places.isPresent(index)) plug(block, index)
    if (random() % 16 === 0 && registers.isModern) registers.requestUnplug(index)
    if (!places.isPresent(0)) return t.fail(`step ${i} took the first processor`)
    if (i % 500 !== 0) continue
    const saved = structuredClone(registers.save())
    const other = new AcpiCpuHotplug(places, () => {})
    other.load(saved)
    t.deepEqual(other.save(), saved)
  }
  t.pass()
})

test('a state of other places, or none, is refused', (t) => {
  const { registers } = create()
  const saved = registers.save()
  for (const change of [
    { events: new Uint8Array(5) },
    { ost: [0] },
    { selector: -1 },
    { modern: 1 },
  ]) {
    const bad = { ...saved, ...change } as unknown as typeof saved
    t.throws(() => registers.load(bad), { code: 'E_STATE', message: /cpu-hotplug/ })
  }
  t.notThrows(() => registers.load(saved))
})

compare('the registers and the refusals are those of QEMU', async (t) => {
  t.timeout(300_000)
  const folder = scratchFolder()
  const peer = await Peer.start(folder, ['-M', 'pc', '-smp', '2,sockets=8,cores=3,maxcpus=24'])
  try {
    const block = create({ cpus: 2, sockets: 8, cores: 3, maxcpus: 24 })
    const { registers, places } = block
    const random = words(0x5afe)
    for (let i = 0; i < STEPS; i++) {
      const what = random() % 16
      if (what === 0) {
        const at = (count: number): string =>
          String((random() % (count + 1)) - (random() % 9 ? 0 : 1))
        const properties = {
          'socket-id': at(8),
          'core-id': at(3),
          ...(random() % 9 ? { 'thread-id': '0' } : {}),
        }
        const numbers = Object.entries(properties).map(([key, text]) => [key, Number(text)])
        const args = { driver: DRIVER, id: `c${i}`, ...Object.fromEntries(numbers) }
        const theirs = await peer.qmp('device_add', args)
        let refusal: string | undefined
        try {
          const index = freePlace({ driver: DRIVER, properties }, places, 'qemu64')
          const option = { driver: DRIVER, id: `c${i}`, properties }
          places.fill(index, { option, path: `/machine/peripheral/c${i}` })
          registers.plugged(index)
        } catch (error) {
          refusal = (error as Error).message
        }
        t.is(refusal, theirs, `step ${i}: ${JSON.stringify(properties)}`)
      } else if (what === 1 && registers.isModern) {
        // The paths of others that the machine began with are different ones there.
        const known = places.present.filter((at) => at === 0 || places.occupant(at)!.option)
        const index = known[random() % known.length]!
        const { path } = places.occupant(index)!
        const theirs = await peer.qmp('device_del', { id: path })
        t.is(theirs, index === 0 ? 'Boot CPU is unpluggable' : undefined)
        if (index !== 0) registers.requestUnplug(index)
      } else {
        // Mostly registers that are there, and places.
        const [offset, size] = [
          [0, 4],
          [0, 1],
          [4, 1],
          [5, 1],
          [8, 4],
          [0x0c, 4],
        ][random() % 6] as [number, number]
        const port = PIIX4_CPU_HOTPLUG_PORT + offset
        const letter = size === 1 ? 'b' : 'l'
        if (what < 9) {
          const any = i < 50 ? 1 + (random() % 255) : random() % (offset === 0 ? 26 : 33)
          // QEMU's translator dies of a processor that comes after one has gone.
          const value = offset === 4 ? any & ~8 : any
          registers.write(offset, size, value)
          await peer.ask(`out${letter} ${port} ${value}`)
        } else {
          const theirs = (await peer.ask(`in${letter} ${port}`)) >>> 0
          const mask = size === 1 ? 0xff : 0xffff_ffff
          t.is((registers.read(offset, size) & mask) >>> 0, theirs, `step ${i}, offset ${offset}`)
        }
      }
    }
    t.true(registers.isModern)
  } finally {
    peer.end()
    rmSync(folder, { recursive: true })
  }
})
