import test from 'ava'

import { findFont } from '../src/chipset/vga/modes.ts'
import type { Picture } from '../src/chipset/vga/render.ts'
import { CP437 } from '../src/chipset/vga/text.ts'
import { VgaDriver } from './support/vga-fixture.ts'

const pixel = ({ width, pixels }: Picture, x: number, y: number): number[] =>
  Array.from(pixels.subarray((y * width + x) * 3, (y * width + x) * 3 + 3))

test('identity: what QEMU shows on the bus', (t) => {
  const { fn } = new VgaDriver().vga
  const word = (at: number): number => fn.configRead(at, 4)
  t.deepEqual([0, 8, 0x2c].map(word), [0x1111_1234, 0x0300_0002, 0x1100_1af4])
  fn.configWrite(0x10, 4, 0xffff_ffff)
  fn.configWrite(0x18, 4, 0xffff_ffff)
  t.deepEqual([0x10, 0x18].map(word), [0xff00_0008, 0xffff_f000])
})

test('registers: masks, the lock of the CRTC, and the flip-flop', (t) => {
  const driver = new VgaDriver()
  driver.out(0x3c2, 0x67)
  driver.set(0x3c4, 2, 0xff)
  t.is(driver.get(0x3c4, 2), 0x0f)
  driver.set(0x3ce, 8, 0x5a)
  t.is(driver.get(0x3ce, 8), 0x5a)
  t.is(driver.get(0x3ce, 0x0f), 0)
  driver.set(0x3d4, 0x11, 0x80)
  driver.set(0x3d4, 1, 0x4f)
  t.is(driver.get(0x3d4, 1), 0, 'locked')
  driver.set(0x3d4, 7, 0xff)
  t.is(driver.get(0x3d4, 7), 0x10, 'but for a bit')
  t.is(driver.in(0x3b5), 0xff, 'colour: the other CRTC is not there')
  driver.in(0x3da)
  driver.out(0x3c0, 0x05)
  driver.out(0x3c0, 0x2a)
  driver.out(0x3c0, 0x25)
  t.is(driver.in(0x3c1), 0x2a)
  t.not(driver.in(0x3da) & 9, driver.in(0x3da) & 9, 'the retrace comes and goes')
  driver.out(0x3c2, 0x66)
  t.is(driver.in(0x3d5), 0xff)
})

test('the miscellaneous output register is latched, and no write to it is posted', (t) => {
  const latched = new Map<number, number | undefined>()
  const latches = (port: number) => (value: number | undefined) => void latched.set(port, value)
  const driver = new VgaDriver(16, undefined, latches)
  t.deepEqual([...latched], [[0x3cc, 0]])
  const check = (value: number): void => {
    t.is(latched.get(0x3cc), value)
    t.is(driver.in(0x3cc), value)
  }
  driver.out(0x3c2, 0x77)
  check(0x67)
  driver.set(0x3c1, 0, 0x23)
  check(0x23)
  driver.bus.pio.write(0x3cc, 1, 0xff)
  check(0x23)
  const saved = driver.vga.save()
  driver.vga.reset()
  check(0)
  driver.vga.load(saved)
  check(0x23)
  const { fn } = driver.vga
  fn.configWrite(0x18, 4, 0xe000_0000)
  fn.configWrite(0x04, 2, 2)
  driver.bus.mmio.write(0xe000_0402, 1, 0x63)
  check(0x63)
  const posted = driver.bus.pio.postedRanges()
  const isPosted = (port: number): boolean =>
    posted.some(({ base, len }) => port >= base && port < base + len)
  t.deepEqual(
    [0x3c1, 0x3c2, 0x3c3, 0x3c5, 0x3cb, 0x3cc, 0x3cd, 0x3cf, 0x3d5].map(isPosted),
    [true, false, true, true, true, false, true, true, true],
    'what is latched would be read before it is written',
  )
})

test('palette: components are written and read in turn', (t) => {
  const driver = new VgaDriver()
  driver.out(0x3c8, 254)
  for (const value of [1, 2, 3, 4, 5, 0xff, 6, 7, 8]) driver.out(0x3c9, value)
  driver.out(0x3c7, 254)
  t.deepEqual(
    Array.from({ length: 9 }, () => driver.in(0x3c9)),
    [1, 2, 3, 4, 5, 0x3f, 6, 7, 8],
  )
  driver.out(0x3c7, 0)
  t.is(driver.in(0x3c9), 6, 'from the last entry to the first')
})

test('text: what is written to the window is on the screen', (t) => {
  const driver = new VgaDriver()
  t.is(driver.text(), undefined, 'the screen is off')
  driver.vga.setTextMode()
  driver.print(0, 0, 'Hello')
  driver.print(24, 75, 'end\xdb')
  const rows = driver.text()!.split('\n')
  t.is(rows.length, 25)
  t.is(rows[0], 'Hello')
  t.is(rows[24], `${' '.repeat(75)}end█`)
  t.is(driver.peek(0xb_8001), 0x07)
  driver.set(0x3d4, 0x0d, 80)
  t.is(driver.text()!.split('\n')[0], '', 'scrolled by its start address')
  driver.linear(640, 480, 32)
  t.is(driver.text(), undefined)
  t.is(CP437.length, 256)
  t.is(CP437[0x41], 'A')
  t.is(CP437[0x80], 'Ç')
  t.is(CP437[0xb3], '│')
  t.is(CP437[0xfe], '■')
})

test('text: characters are drawn with the font in plane 2, and the cursor', (t) => {
  const font = new Uint8Array(4096)
  for (let i = 0; i < 16; i++)
    font[16 + i] = [0, 0, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e, 0, 0, 0, 0][
      i
    ]!
  const rom = new Uint8Array(8192)
  rom.set(font, 1000)
  t.deepEqual(findFont(rom), font)
  t.is(findFont(new Uint8Array(100)), undefined)
  const driver = new VgaDriver(16, rom)
  driver.vga.setTextMode()
  driver.print(1, 2, '\x01', 0x1e)
  const picture = driver.vga.picture()
  t.deepEqual([picture.width, picture.height], [720, 400])
  t.deepEqual(pixel(picture, 2 * 9, 16 + 3), [0xff, 0xff, 0x55], 'yellow')
  t.deepEqual(pixel(picture, 2 * 9 + 1, 16 + 3), [0, 0, 0xaa], 'on blue')
  t.deepEqual(pixel(picture, 2 * 9, 16), [0, 0, 0xaa])
  t.deepEqual(pixel(picture, 0, 13), [0xaa, 0xaa, 0xaa], 'the cursor')
  driver.set(0x3d4, 0x0a, 0x20)
  t.deepEqual(pixel(driver.vga.picture(), 0, 13), [0, 0, 0])
})

test('planes: write modes, latches and comparison', (t) => {
  const driver = new VgaDriver()
  driver.set(0x3ce, 6, 0x05)
  driver.set(0x3ce, 8, 0xff)
  driver.set(0x3c4, 2, 0x0f)
  driver.set(0x3c4, 4, 0x06)
  driver.poke(0xa_0000, 0x81)
  const planes = (at: number): number[] =>
    Array.from(driver.memory.bytes.subarray(at * 4, at * 4 + 4))
  t.deepEqual(planes(0), [0x81, 0x81, 0x81, 0x81])
  driver.set(0x3c4, 2, 0x05)
  driver.poke(0xa_0001, 0xff)
  t.deepEqual(planes(1), [0xff, 0, 0xff, 0])
  driver.set(0x3c4, 2, 0x0f)
  driver.peek(0xa_0001)
  driver.set(0x3ce, 5, 1)
  driver.poke(0xa_0002, 0)
  t.deepEqual(planes(2), [0xff, 0, 0xff, 0], 'the latches')
  driver.set(0x3ce, 5, 2)
  driver.set(0x3ce, 8, 0x0f)
  driver.peek(0xa_0002)
  driver.poke(0xa_0003, 0x0a)
  t.deepEqual(planes(3), [0xf0, 0x0f, 0xf0, 0x0f], 'a colour in the pixels of the mask')
  driver.set(0x3ce, 5, 3)
  driver.set(0x3ce, 0, 0x0c)
  driver.set(0x3ce, 8, 0xff)
  driver.peek(0xa_0008)
  driver.poke(0xa_0004, 0x3c)
  t.deepEqual(planes(4), [0, 0, 0x3c, 0x3c])
  driver.set(0x3ce, 5, 0)
  driver.set(0x3ce, 1, 0)
  driver.set(0x3ce, 3, 0x18 | 4)
  driver.peek(0xa_0000)
  driver.poke(0xa_0005, 0xf0)
  t.deepEqual(planes(5), [0x8e, 0x8e, 0x8e, 0x8e], 'rotated, and exclusive or')
  driver.set(0x3ce, 5, 8)
  driver.set(0x3ce, 2, 0x0f)
  driver.set(0x3ce, 7, 0x0f)
  t.is(driver.peek(0xa_0000), 0x81, 'pixels of that colour')
  driver.set(0x3ce, 5, 0)
  driver.set(0x3ce, 4, 2)
  t.is(driver.peek(0xa_0004), 0x3c)
})

test('window: its four maps', (t) => {
  const driver = new VgaDriver()
  driver.set(0x3c4, 2, 0x0f)
  driver.set(0x3ce, 8, 0xff)
  const answers = (): boolean[] =>
    [0xa_0000, 0xb_0000, 0xb_8000].map((gpa) => {
      driver.memory.bytes.fill(0)
      driver.poke(gpa, 0x12)
      return driver.memory.bytes.subarray(0, 0x4_0000).includes(0x12)
    })
  const expected = [
    [true, false, false],
    [true, false, false],
    [false, true, false],
    [false, false, true],
  ]
  for (const [map, shown] of expected.entries()) {
    driver.set(0x3ce, 6, map << 2)
    // Behind the 64 Ki of a plane the first map has nothing.
    t.deepEqual(answers(), shown, `map ${map}`)
  }
})

test('mode 13h: 256 colours in a chain, doubled to 640 by 400, and the window is RAM', (t) => {
  const driver = new VgaDriver()
  driver.vga.setTextMode()
  driver.set(0x3c4, 4, 0x0e)
  driver.set(0x3ce, 5, 0x40)
  driver.set(0x3ce, 6, 0x05)
  driver.set(0x3c4, 2, 0x0f)
  driver.set(0x3d4, 9, 0x41)
  driver.set(0x3d4, 0x14, 0x40)
  driver.set(0x3d4, 0x17, 0xa3)
  t.deepEqual(driver.memory.shown.at(-1), [1, 0xa_0000, 0x1_0000, 0])
  driver.out(0x3c8, 200)
  for (const value of [63, 32, 0]) driver.out(0x3c9, value)
  driver.memory.bytes.fill(0)
  driver.poke(0xa_0000 + 320 * 3 + 7, 200)
  const picture = driver.vga.picture()
  t.deepEqual([picture.width, picture.height], [640, 400])
  for (const [x, y] of [
    [14, 6],
    [15, 7],
  ] as const)
    t.deepEqual(pixel(picture, x, y), [255, 130, 0])
  t.deepEqual(pixel(picture, 16, 6), [0, 0, 0])
  driver.set(0x3c4, 2, 0x01)
  t.deepEqual(driver.memory.shown.at(-1)!.slice(0, 2), [1, undefined], 'not with planes masked')
})

test('mode 12h: 16 colours in planes', (t) => {
  const driver = new VgaDriver()
  driver.vga.setTextMode()
  driver.set(0x3d4, 0x11, 0)
  driver.set(0x3d4, 7, 0x3e)
  driver.set(0x3d4, 9, 0x40)
  driver.set(0x3d4, 0x12, 0xdf)
  driver.set(0x3d4, 0x17, 0xe3)
  driver.set(0x3ce, 5, 0)
  driver.set(0x3ce, 6, 5)
  driver.set(0x3c4, 4, 6)
  driver.set(0x3c4, 2, 0x0a)
  driver.memory.bytes.fill(0)
  driver.poke(0xa_0000 + 80 * 5 + 2, 0x40)
  const picture = driver.vga.picture()
  t.deepEqual([picture.width, picture.height], [640, 480])
  t.deepEqual(pixel(picture, 17, 5), [0x55, 0xff, 0x55])
  t.deepEqual(pixel(picture, 18, 5), [0, 0, 0])
})

test('dispi: identity, limits, and modes that fit', (t) => {
  const driver = new VgaDriver()
  t.is(driver.dispiRead(0), 0xb0c5)
  driver.dispi(0, 0xb0c0)
  t.is(driver.dispiRead(0), 0xb0c0)
  t.is(driver.dispiRead(10), 256)
  driver.dispi(4, 2)
  t.deepEqual(
    [1, 2, 3].map((i) => driver.dispiRead(i)),
    [16_000, 12_000, 32],
  )
  driver.memory.bytes[100] = 7
  driver.linear(1027, 768, 32)
  t.is(driver.memory.bytes[100], 0, 'cleared')
  t.deepEqual(
    [1, 2, 3, 6, 7].map((i) => driver.dispiRead(i)),
    [1024, 768, 32, 1024, 4096],
  )
  driver.linear(8000, 8000, 32)
  t.true(driver.dispiRead(2) * 8000 * 4 <= 16 << 20)
  driver.linear(0, 0, 7)
  t.deepEqual(
    [1, 2, 3].map((i) => driver.dispiRead(i)),
    [8, 1, 8],
  )
  driver.linear(640, 480, 16)
  driver.dispi(6, 1280)
  driver.dispi(9, 65_535)
  t.is(driver.dispiRead(9), 0, 'behind the end of memory')
  driver.memory.bytes[100] = 7
  driver.dispi(4, 0)
  driver.dispi(4, 0xc1)
  t.is(driver.memory.bytes[100], 7, 'not cleared')
})

test('dispi: pixels of every depth', (t) => {
  const driver = new VgaDriver()
  const color = (depth: number, bytes: readonly number[]): number[] => {
    driver.linear(64, 32, depth)
    driver.memory.bytes.set(bytes, ((64 * 3 + 5) * (depth === 15 ? 16 : depth)) >> 3)
    return pixel(driver.vga.picture(), 5, 3)
  }
  t.deepEqual(color(32, [1, 2, 3, 0]), [3, 2, 1])
  t.deepEqual(color(24, [1, 2, 3]), [3, 2, 1])
  t.deepEqual(color(16, [0x1f, 0x04]), [0, 130, 255])
  t.deepEqual(color(15, [0x1f, 0x7c]), [255, 0, 255])
  driver.out(0x3c8, 9)
  for (const value of [63, 0, 63]) driver.out(0x3c9, value)
  t.deepEqual(color(8, [9]), [255, 0, 255])
  driver.dispi(4, 0x61)
  driver.out(0x3c8, 9)
  for (const value of [200, 0, 100]) driver.out(0x3c9, value)
  t.deepEqual(pixel(driver.vga.picture(), 5, 3), [200, 0, 100], 'eight bits of each colour')
})

test('dispi: the window shows a bank', (t) => {
  const driver = new VgaDriver()
  driver.linear(1024, 768, 8, 1)
  driver.dispi(5, 3)
  t.deepEqual(driver.memory.shown.at(-1), [1, 0xa_0000, 0x1_0000, 0x3_0000])
  driver.poke(0xa_0010, 0x42)
  t.is(driver.memory.bytes[0x3_0010], 0x42)
  driver.dispi(5, 0xffff)
  driver.poke(0xa_ffff, 0x43)
  t.is(driver.memory.bytes.at(-1), 0x43)
})

test('register BAR: ports, display interface, and what is behind', (t) => {
  const driver = new VgaDriver()
  const { fn } = driver.vga
  const base = 0xfebf_0000
  fn.configWrite(0x18, 4, base)
  fn.configWrite(0x10, 4, 0xe000_0000)
  fn.configWrite(4, 2, 2)
  t.deepEqual(driver.memory.shown.at(-1), [0, 0xe000_0000, 16 << 20, 0])
  const { mmio } = driver.bus
  t.is(mmio.read(base + 0x500, 2), 0xb0c5)
  t.is(mmio.read(base + 0x514, 2), 256)
  mmio.write(base + 0x502, 2, 800)
  mmio.write(base + 0x504, 2, 600)
  mmio.write(base + 0x506, 2, 32)
  mmio.write(base + 0x508, 2, 0x41)
  t.is(driver.vga.picture().width, 800)
  mmio.write(base + 0x404, 2, 0x0302)
  t.is(driver.get(0x3c4, 2) & 0x0f, 3)
  t.is(mmio.read(base + 0x600, 4), 8)
  t.is(mmio.read(base + 0x604, 4), 0x1e1e1e1e)
  mmio.write(0xe000_0004, 4, 0x11223344)
  t.is(driver.memory.bytes[4], 0x44, 'where RAM could not be shown, the bus answers')
  fn.configWrite(4, 2, 0)
  t.deepEqual(driver.memory.shown.at(-1)!.slice(0, 2), [0, undefined])
})

test('a VGA that was saved goes on in another', (t) => {
  const driver = new VgaDriver()
  driver.vga.setTextMode()
  driver.print(3, 0, 'saved')
  const state = structuredClone(driver.vga.save())
  const other = new VgaDriver()
  other.vga.load(state)
  t.deepEqual(other.vga.save(), state)
  t.is(other.text(), driver.text())
  t.deepEqual(other.vga.picture(), driver.vga.picture())
})
