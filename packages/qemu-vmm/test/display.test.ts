import { crc32, inflateSync } from 'node:zlib'

import test from 'ava'

import { I8042 } from '../src/chipset/i8042.ts'
import { KeyQueue } from '../src/display/key-queue.ts'
import { KEYS, keysByName, keysOfCharacter } from '../src/display/keys.ts'
import { encodePng, encodePpm } from '../src/display/png.ts'
import { ManualClock } from '../src/machine/clock.ts'
import { FakeIrq } from './support/fakes.ts'

const picture = {
  width: 2,
  height: 2,
  pixels: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
}

test('png: chunks with their sums, and lines behind a filter byte', (t) => {
  const png = Buffer.from(encodePng(picture))
  t.is(png.subarray(0, 8).toString('latin1'), '\x89PNG\r\n\x1a\n')
  const chunks = new Map<string, Buffer>()
  for (let at = 8; at < png.length;) {
    const length = png.readUInt32BE(at)
    const type = png.toString('latin1', at + 4, at + 8)
    t.is(png.readUInt32BE(at + 8 + length), crc32(png.subarray(at + 4, at + 8 + length)), type)
    chunks.set(type, png.subarray(at + 8, at + 8 + length))
    at += 12 + length
  }
  t.deepEqual([...chunks.keys()], ['IHDR', 'IDAT', 'IEND'])
  t.deepEqual([...chunks.get('IHDR')!], [0, 0, 0, 2, 0, 0, 0, 2, 8, 2, 0, 0, 0])
  t.deepEqual([...inflateSync(chunks.get('IDAT')!)], [0, 1, 2, 3, 4, 5, 6, 0, 7, 8, 9, 10, 11, 12])
  t.is(Buffer.from(encodePpm(picture)).toString('latin1', 0, 11), 'P6\n2 2\n255\n')
})

test('keys: no two have the same codes, and characters have theirs', (t) => {
  const codes = (set: 'set1' | 'set2'): Set<string> =>
    new Set(Array.from(KEYS.values(), (key) => `${key.extended} ${key[set]}`))
  t.is(codes('set1').size, KEYS.size)
  t.is(codes('set2').size, KEYS.size)
  for (let code = 32; code < 127; code++) {
    const names = keysOfCharacter(String.fromCharCode(code))
    t.truthy(names, `character ${code}`)
    t.notThrows(() => keysByName(names!))
  }
  t.deepEqual(keysOfCharacter('\u0003'), ['ctrl', 'c'])
  t.is(keysOfCharacter('é'), undefined)
  t.throws(() => keysByName(['hyper']), { code: 'E_KEY' })
})

function createKeyboard(): { i8042: I8042; keys: KeyQueue; clock: ManualClock; read(): number[] } {
  const clock = new ManualClock()
  const i8042 = new I8042({ keyboardIrq: new FakeIrq(), mouseIrq: new FakeIrq(), reset() {} })
  // What firmware leaves: translation and the keyboard interrupt on.
  i8042.write(4, 1, 0xaa)
  i8042.read(0)
  i8042.write(4, 1, 0x60)
  i8042.write(0, 1, 0x65)
  const read = (): number[] => {
    const bytes: number[] = []
    while ((i8042.read(4) & 1) !== 0) bytes.push(i8042.read(0))
    return bytes
  }
  return { i8042, keys: new KeyQueue(i8042.keyboard, clock), clock, read }
}

test('keyboard: keys go down together, are held, and come up', (t) => {
  const { keys, clock, read } = createKeyboard()
  keys.press(keysByName(['ctrl', 'alt', 'delete']), 100)
  t.deepEqual(read(), [0x1d, 0x38, 0xe0, 0x53])
  clock.advance(99_000_000)
  t.deepEqual(read(), [])
  clock.advance(2_000_000)
  t.deepEqual(read(), [0xe0, 0xd3, 0xb8, 0x9d])
})

test('keyboard: what it has no room for comes later, in order', (t) => {
  const { keys, clock, read } = createKeyboard()
  const text = 'the quick brown fox'
  for (const char of text) keys.press(keysByName(keysOfCharacter(char)!))
  const seen: number[] = []
  for (let i = 0; i < 100; i++) {
    seen.push(...read())
    clock.advance(5_000_000)
  }
  const expected = [...text].flatMap((char) => {
    const { set1 } = KEYS.get(char === ' ' ? 'spc' : char)!
    return [set1, set1 | 0x80]
  })
  t.deepEqual(seen, expected)
})

test('keyboard: scan code set 1 when it was chosen, and bounded when nobody reads', (t) => {
  const { i8042, keys, read } = createKeyboard()
  i8042.write(4, 1, 0x60)
  i8042.write(0, 1, 0x25)
  for (const byte of [0xf0, 0x01]) i8042.write(0, 1, byte)
  read()
  keys.press(keysByName(['a']))
  t.deepEqual(read(), [0x1e, 0x9e])
  t.throws(
    () => {
      for (let i = 0; i < 10_000; i++) keys.press(keysByName(['a']))
    },
    { code: 'E_KEY' },
  )
})
