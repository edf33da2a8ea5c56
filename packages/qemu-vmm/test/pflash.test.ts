// The flash chip: commands, status, what cannot be written, and what no sequence of accesses breaks.
import test from 'ava'

import { Cfi01Flash, FLASH_SECTOR_BYTES } from '../src/chipset/pflash/cfi01.ts'
import { VmmError } from '../src/errors.ts'
import { words } from './support/random.ts'

const SIZE = 0x2_1000

interface Fixture {
  chip: Cfi01Flash
  bytes: Uint8Array
  shown: boolean
  written: [number, number][]
}

function create(readOnly = false): Fixture {
  const bytes = Uint8Array.from({ length: SIZE }, (_, i) => i & 0xff)
  const fixture: Omit<Fixture, 'chip'> = { bytes, shown: true, written: [] }
  const chip = new Cfi01Flash(
    'flash',
    {
      bytes,
      showArray: (shown) => void (fixture.shown = shown),
      written: (offset, length) => void fixture.written.push([offset, length]),
    },
    readOnly,
  )
  return Object.assign(fixture, { chip })
}

test('bytes are programmed, and the array is shown again when asked', (t) => {
  const flash = create()
  const { chip, bytes } = flash
  chip.write(0x123, 1, 0x40)
  t.false(flash.shown)
  t.is(chip.read(0x123, 1) & 0xff, 0x80)
  chip.write(0x123, 1, 0x5a)
  chip.write(0x124, 1, 0x10)
  chip.write(0x124, 1, 0xa5)
  t.is(chip.read(0, 1) & 0xff, 0x80, 'status until the array is asked for')
  chip.write(0, 1, 0xff)
  t.true(flash.shown)
  t.deepEqual([...bytes.subarray(0x122, 0x126)], [0x22, 0x5a, 0xa5, 0x25])
  t.deepEqual(flash.written, [
    [0x123, 1],
    [0x124, 1],
  ])
})

test('a sector is erased as a whole', (t) => {
  const { chip, bytes, written } = create()
  chip.write(0x2345, 1, 0x20)
  chip.write(0x2345, 1, 0xd0)
  t.is(chip.read(0, 1) & 0xff, 0x80)
  t.true(bytes.subarray(0x2000, 0x3000).every((byte) => byte === 0xff))
  t.is(bytes[0x1fff], 0xff)
  t.is(bytes[0x3001], 1)
  t.deepEqual(written, [[0x2000, FLASH_SECTOR_BYTES]])
})

test('a buffer is written and confirmed', (t) => {
  const flash = create()
  const { chip, bytes } = flash
  chip.write(0x1000, 1, 0xe8)
  t.is(chip.read(0x1000, 1) & 0x80, 0x80)
  chip.write(0x1000, 1, 3)
  for (const [i, byte] of [9, 8, 7, 6].entries()) chip.write(0x1010 + i, 1, byte)
  chip.write(0x1000, 1, 0xd0)
  chip.write(0x1000, 1, 0xff)
  t.true(flash.shown)
  t.deepEqual([...bytes.subarray(0x1010, 0x1014)], [9, 8, 7, 6])
})

test('it says what it is', (t) => {
  const { chip } = create()
  chip.write(0x55, 1, 0x98)
  t.deepEqual(
    [0x10, 0x11, 0x12].map((at) => String.fromCharCode(chip.read(at, 1) & 0xff)),
    ['Q', 'R', 'Y'],
  )
  t.is(chip.read(0x10, 4), 0x0159_5251)
  t.is(chip.read(0x2d, 1) & 0xff, SIZE / 4096 - 1)
  t.is(chip.read(0x2f, 1) & 0xff, 0x10)
  t.is(chip.read(0xff, 4), 0)
  chip.write(0, 1, 0xff)
  chip.write(0, 1, 0x90)
  t.is(chip.read(0, 4), 0)
})

test('a read-only chip says that it failed, and changes nothing', (t) => {
  const { chip, bytes, written } = create(true)
  const before = bytes.slice()
  chip.write(0, 1, 0x40)
  chip.write(0, 1, 0x77)
  t.is(chip.read(0, 1) & 0xff, 0x90)
  chip.write(0, 1, 0x50)
  chip.write(0, 1, 0x20)
  chip.write(0, 1, 0xd0)
  t.is(chip.read(0, 1) & 0xff, 0xa0)
  t.deepEqual(bytes, before)
  t.is(written.length, 0)
  const other = create(true)
  const state = other.chip.save()
  state.bytes[5]! ^= 1
  t.throws(() => chip.load(state), { code: 'E_STATE', message: /read-only/ })
})

test('no sequence of accesses makes it throw, and a saved chip goes on like the first', (t) => {
  const random = words(0xf1a5)
  const commands = [0x10, 0x20, 0x28, 0x40, 0x50, 0x60, 0x70, 0x90, 0x98, 0xd0, 0xe8, 0xf0, 0xff, 0]
  const step = (flash: Fixture, next: () => number): number => {
    const offset = next() % (SIZE + 8)
    const size = 1 << (next() % 3)
    if (next() % 4 === 0) return flash.chip.read(offset, size)
    const byte = next() % 3 === 0 ? next() & 0xff : commands[next() % commands.length]!
    flash.chip.write(offset, size, size === 1 ? byte : next())
    return flash.shown ? 1 : 0
  }
  const first = create()
  for (let round = 0; round < 50; round++) {
    for (let i = 0; i < 400; i++) t.true(Number.isInteger(step(first, random)))
    const second = create()
    second.chip.load(structuredClone(first.chip.save()))
    t.is(second.shown, first.shown)
    const seed = random()
    const again = [words(seed), words(seed)] as const
    for (let i = 0; i < 100; i++) t.is(step(first, again[0]), step(second, again[1]))
    t.deepEqual(second.bytes, first.bytes)
  }
  for (const bad of [null, {}, { ...first.chip.save(), cycle: 7 }]) {
    const error = t.throws(() => first.chip.load(bad as never))
    t.true(error instanceof VmmError && error.code === 'E_STATE')
  }
})
