import test from 'ava'

import { FloppyDrive } from '../src/chipset/floppy/drive.ts'
import type { DeviceOption } from '../src/devices/device-type.ts'
import { VmmError } from '../src/errors.ts'
import type { PcBoard } from '../src/machine/pc.ts'
import { BUFFER, FloppyDriver } from './support/floppy-driver.ts'
import { plugBoard } from './support/plug-board.ts'
import { hasPeer, startPeer } from './support/qtest.ts'
import { words } from './support/random.ts'

const compare = hasPeer ? test : test.skip
const READ = 0xe6
const WRITE = 0xc5
const lba = (track: number, head: number, sector: number): number =>
  ((track * 2 + head) * 18 + sector - 1) * 512

test('a reset interrupts, and is told four times', (t) => {
  const d = new FloppyDriver()
  d.fdc.write(2, 1, 0)
  t.false(d.irq.level)
  d.fdc.write(2, 1, 0x0c)
  t.true(d.irq.level)
  for (let unit = 0; unit < 4; unit++) {
    d.command(8)
    t.deepEqual(d.result(), [0xc0 | unit, 0])
  }
  t.false(d.irq.level)
  d.command(8)
  t.deepEqual(d.result(), [0x80], 'nothing more to tell')
})

test('seek and recalibrate end with an interrupt, and clear the changed disk', (t) => {
  const d = new FloppyDriver()
  d.start()
  t.is(d.fdc.read(7), 0x80)
  d.command(0x0f, 0, 40)
  t.true(d.irq.level)
  d.command(8)
  t.deepEqual(d.result(), [0x20, 40])
  t.is(d.fdc.read(7), 0)
  d.command(0x04, 0)
  t.deepEqual(d.result(), [0x28])
  d.command(0x07, 0)
  d.command(8)
  t.deepEqual(d.result(), [0x20, 0])
  d.command(0x04, 0)
  t.deepEqual(d.result(), [0x38])
})

test('sectors are read by DMA, over both heads', async (t) => {
  const d = new FloppyDriver()
  d.start()
  d.channel(3 * 512, false)
  d.command(READ, 0, 5, 0, 17, 2, 18, 0x1b, 0xff)
  t.is(d.status(), 0x10, 'busy')
  t.deepEqual(await d.done(), [0x04, 0, 0, 5, 1, 2, 2])
  t.true(d.irq.edges > 1)
  t.deepEqual(d.buffer(1536), d.disk.bytes.slice(lba(5, 0, 17), lba(5, 0, 17) + 1536))
  // The channel says that it is through, and is masked.
  t.is(d.dma.read(8) & 0x04, 4)
})

test('a command waits for its channel', async (t) => {
  const d = new FloppyDriver()
  d.start()
  d.channel(512, false)
  d.dma.write(0x0a, 1, 6)
  d.command(READ, 0, 0, 0, 1, 2, 18, 0x1b, 0xff)
  t.deepEqual(await d.done(), [])
  d.dma.write(0x0a, 1, 2)
  t.is((await d.done()).length, 7)
  t.deepEqual(d.buffer(512), d.disk.bytes.slice(0, 512))
})

test('sectors are written by DMA, unless the disk is protected', async (t) => {
  for (const readOnly of [false, true]) {
    const d = new FloppyDriver(readOnly)
    d.start()
    d.ram.bytes.fill(0x77, BUFFER, BUFFER + 1024)
    d.channel(1024, true)
    d.command(WRITE, 0, 79, 1, 2, 2, 18, 0x1b, 0xff)
    const [st0, st1] = await d.done()
    t.deepEqual([st0! & 0xc0, st1], readOnly ? [0x40, 0x02] : [0, 0])
    t.is(d.disk.bytes[lba(79, 1, 2) + 1023] === 0x77, !readOnly)
    t.not(d.disk.bytes[lba(79, 1, 4)], 0x77)
  }
})

test('a track is formatted: its sectors are filled', async (t) => {
  const d = new FloppyDriver()
  d.start()
  d.command(0x0f, 0, 7)
  d.command(8)
  d.result()
  for (let r = 1; r <= 18; r++) d.ram.bytes.set([7, 1, r, 2], BUFFER + (r - 1) * 4)
  d.channel(72, true)
  d.command(0x4d, 0x04, 2, 18, 0x54, 0xf6)
  t.is((await d.done())[0]! & 0xc0, 0)
  const track = d.disk.bytes.slice(lba(7, 1, 1), lba(8, 0, 1))
  t.true(track.every((byte) => byte === 0xf6))
  t.not(d.disk.bytes[lba(8, 0, 1)], 0xf6)
})

test('without DMA the data goes through the FIFO', async (t) => {
  const d = new FloppyDriver()
  d.start()
  d.command(0x03, 0xdf, 0x03)
  d.command(0x46, 0, 0, 0, 3, 2, 3, 0x1b, 0xff)
  await d.fdc.quiesce()
  t.is(d.status(), 0xf0)
  const got = Uint8Array.from({ length: 512 }, () => d.fdc.read(5))
  t.deepEqual(got, d.disk.bytes.slice(1024, 1536))
  t.is(d.result().length, 7)
  d.command(0x45, 0, 0, 0, 3, 2, 3, 0x1b, 0xff)
  t.is(d.status(), 0xb0)
  for (let i = 0; i < 512; i++) d.fdc.write(5, 1, 0x31)
  t.is((await d.done())[0], 0)
  t.is(d.disk.bytes[1535], 0x31)
})

test('what cannot be is refused with its status', async (t) => {
  const d = new FloppyDriver()
  d.start()
  const outcome = async (...command: number[]): Promise<number[]> => {
    d.channel(512, false)
    d.command(...command)
    return (await d.done()).slice(0, 2)
  }
  t.deepEqual(await outcome(READ, 0, 80, 0, 1, 2, 18, 0x1b, 0xff), [0x40, 0x80], 'no such track')
  t.deepEqual(await outcome(READ, 0, 0, 0, 19, 2, 18, 0x1b, 0xff), [0x40, 0x04], 'no such sector')
  t.deepEqual(await outcome(READ, 0, 0, 0, 1, 3, 18, 0x1b, 0xff), [0x40, 0x04], 'another size')
  t.deepEqual(await outcome(READ, 1, 0, 0, 1, 2, 18, 0x1b, 0xff), [0x41, 0x01], 'no disk')
  d.fdc.write(7, 1, 2)
  t.deepEqual(await outcome(READ, 0, 0, 0, 1, 2, 18, 0x1b, 0xff), [0x40, 0x01], 'another rate')
  d.fdc.write(7, 1, 0)
  d.disk.error = new Error('unreadable')
  t.deepEqual(await outcome(READ, 0, 0, 0, 1, 2, 18, 0x1b, 0xff), [0x40, 0x04])
  d.command(0x1f)
  t.deepEqual(d.result(), [0x80], 'no such command')
})

/** One access of a hostile guest. */
function access(d: FloppyDriver, random: () => number): number {
  const kind = random() % 16
  const starts = [0xe6, 0xc5, 0x0f, 0x08, 0x07, 0x4d, 0x4a, 0x46, 0x45, 0x0e, 0x16, 0x04, 0x03]
  if (kind === 0) d.command(starts[random() % starts.length]!)
  else if (kind === 1) d.channel(1 + (random() % 0x9000), random() % 2 === 0, random() & 0x1f_ffff)
  else if (kind === 2) d.dma.write(random() % 16, 1, random() & 0xff)
  else if (kind === 3 && random() % 8 === 0) d.start()
  else if (kind < 10) d.fdc.write(5, 1, random() & (random() % 2 === 0 ? 0x1f : 0xff))
  else if (kind === 10 && random() % 8 === 0) d.fdc.write(random() & 7, 1, random() & 0xff)
  else return d.fdc.read(kind < 13 ? 5 : random() & 7)
  return 0
}

test('no sequence of accesses makes it throw, hang, or read what is no byte', async (t) => {
  const random = words(0xfdc)
  const d = new FloppyDriver()
  for (let i = 0; i < 100_000; i++) {
    const value = access(d, random)
    if (!(Number.isInteger(value) && value >= 0 && value <= 0xff)) return t.fail(`${i}: ${value}`)
    if (random() % 16 === 0) await d.fdc.quiesce()
    d.ram.written.length = 0
  }
  t.is(d.disk.bytes.length, 1440 * 1024)
})

test('a loaded controller goes on exactly like the one that was saved', async (t) => {
  for (let seed = 1; seed <= 30; seed++) {
    const [first, second] = [new FloppyDriver(), new FloppyDriver()]
    const random = words(seed * 613)
    for (let i = 0; i < 400; i++) {
      access(first, random)
      if (random() % 8 === 0) await first.fdc.quiesce()
    }
    await first.fdc.quiesce()
    second.disk.bytes.set(first.disk.bytes)
    second.ram.bytes.set(first.ram.bytes)
    second.dma.load(structuredClone(first.dma.save()))
    second.fdc.load(structuredClone(first.fdc.save()))
    t.deepEqual(second.fdc.save(), first.fdc.save(), `seed ${seed}`)
    const again = [words(~seed), words(~seed)] as const
    for (let i = 0; i < 400; i++) {
      const values = [access(first, again[0]), access(second, again[1])]
      if (values[0] !== values[1]) return t.fail(`seed ${seed}, step ${i}`)
      await first.fdc.quiesce()
      await second.fdc.quiesce()
    }
    t.deepEqual(second.fdc.save(), first.fdc.save())
    t.is(Buffer.compare(first.disk.bytes, second.disk.bytes), 0)
  }
})

test('damaged states are refused by name', (t) => {
  const { fdc } = new FloppyDriver()
  const good = fdc.save()
  const bads = [
    null,
    { ...good, phase: 9 },
    { ...good, phase: 2 },
    { ...good, phase: 3, length: 2, position: 5 },
    { ...good, drives: [] },
    { ...good, data: new Uint8Array(1) },
  ]
  for (const bad of bads) {
    const error = t.throws(() => fdc.load(bad as never), { instanceOf: VmmError })
    t.is(error.code, 'E_STATE')
  }
})

test('DMA goes down in memory, and wraps in its page', async (t) => {
  const d = new FloppyDriver()
  d.start()
  d.channel(512, false, 0x2_ff00)
  d.command(READ, 0, 0, 0, 1, 2, 18, 0x1b, 0xff)
  await d.done()
  const sector = d.disk.bytes.slice(0, 512)
  t.deepEqual(d.ram.bytes.slice(0x2_ff00, 0x3_0000), sector.slice(0, 256))
  t.deepEqual(d.ram.bytes.slice(0x2_0000, 0x2_0100), sector.slice(256))
  d.channel(512, false, 0x2_1fff)
  d.dma.write(0x0b, 1, 0x66)
  d.command(READ, 0, 0, 0, 1, 2, 18, 0x1b, 0xff)
  await d.done()
  t.deepEqual(d.ram.bytes.slice(0x2_1e00, 0x2_2000), sector.toReversed())
})

test('DMA to ROM is lost, and to what is next to it is not', async (t) => {
  const d = new FloppyDriver()
  d.ram.romAt = 0xf_0000
  const rom = d.ram.bytes.slice(0xf_0000)
  d.start()
  d.channel(512, false, 0xf_1000)
  d.command(READ, 0, 0, 0, 1, 2, 18, 0x1b, 0xff)
  await d.done()
  t.deepEqual(d.ram.bytes.slice(0xf_0000), rom)
  d.channel(512, false, 0xe_fe00)
  d.command(READ, 0, 0, 0, 1, 2, 18, 0x1b, 0xff)
  await d.done()
  t.deepEqual(d.ram.bytes.slice(0xe_fe00, 0xf_0000), d.disk.bytes.slice(0, 512))
})

compare('what is told without a disk is what QEMU 7.2 tells', async (t) => {
  const peer = startPeer('-M', 'pc')
  const d = new FloppyDriver()
  d.fdc.attach(0, new FloppyDrive())
  const out = async (offset: number, value: number): Promise<void> => {
    d.fdc.write(offset, 1, value)
    await peer.ask(`outb ${0x3f0 + offset} ${value}`)
  }
  const both = async (offset: number, what: string): Promise<void> => {
    const theirs = Number(await peer.ask(`inb ${0x3f0 + offset}`))
    t.is(d.fdc.read(offset), theirs, `${what}: register ${offset}`)
  }
  const commands = [
    [0x10],
    [0x18],
    [0x03, 0xdf, 2],
    [0x13, 0, 0x57, 0],
    [0x94],
    [0x14],
    [0x08],
    [0x04, 0],
  ]
  try {
    for (const step of [0x00, 0x0c]) {
      await out(2, step)
      // QEMU takes a look at the main status for the end of a reset.
      for (const offset of step === 0 ? [2] : [2, 4]) await both(offset, `DOR ${step}`)
    }
    for (const command of [
      [8],
      [8],
      [8],
      [8],
      ...commands,
      [0x0f, 0, 0],
      [8],
      [0x07, 0],
      [8],
      [0x1f],
    ]) {
      for (const value of command) await out(5, value)
      await both(4, `command ${command}`)
      for (let i = 0; i < 12 && (d.status() & 0x40) !== 0; i++) {
        await both(5, `result ${i} of command ${command}`)
        await both(4, `after result ${i} of command ${command}`)
      }
    }
  } finally {
    peer.close()
  }
})

/** What a floppy controller answers to VERSION; undefined where there is none. */
function version({ bus }: PcBoard): number | undefined {
  if (bus.pio.read(0x3f4, 1) === 0xff) return undefined
  bus.pio.write(0x3f5, 1, 0x10)
  return bus.pio.read(0x3f5, 1)
}

test('isa-fdc: q35 has one when it is plugged in, and drives name its bus', async (t) => {
  const isaFdc = (properties: Record<string, string> = {}): DeviceOption => ({
    driver: 'isa-fdc',
    id: 'fdc0',
    properties,
  })
  const drive = (properties: Record<string, string> = {}): DeviceOption => ({
    driver: 'floppy',
    properties,
  })
  t.is(version((await plugBoard('q35')).board), undefined)
  t.is(version((await plugBoard('q35', [isaFdc()])).board), 0x90)
  const place = { iobase: '0x3f0', irq: '6', dma: '2' }
  const { board } = await plugBoard('q35', [isaFdc(place), drive({ bus: 'fdc0.0', unit: '1' })])
  t.is(version(board), 0x90)
  t.is(version((await plugBoard('i440fx', [drive({ bus: 'floppy-bus.0' })])).board), 0x90)
  for (const [kind, options, message] of [
    ['q35', [isaFdc(), drive({ bus: 'floppy-bus.0' })], /'floppy-bus.0' not found.*is fdc0.0/],
    ['q35', [drive({ bus: 'fdc0.0' })], /Bus 'fdc0.0' not found for device 'floppy'/],
    ['q35', [isaFdc({ irq: '5' })], /'isa-fdc.irq' doesn't take value '5'/],
    ['q35', [drive(), isaFdc()], /has a floppy controller already.*in front of the drives/],
    ['i440fx', [isaFdc()], /has a floppy controller already/],
  ] as const) {
    await t.throwsAsync(plugBoard(kind, options), { code: 'E_DEVICE_OPTION', message })
  }
})
