import { Buffer } from 'node:buffer'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import test from 'ava'
import { characterDevice, cpio, directory, executable, file, symlink } from '../lib/cpio.mjs'
import { lz4Magic, unlz4 } from '../lib/lz4.mjs'
import { CargoCounter, TapCounter } from '../lib/report.mjs'
import { Failure } from '../lib/run.mjs'
import { Typist } from '../lib/typist.mjs'
import { vmlinux } from '../guests/vmlinux.mjs'

test('a cpio archive has the fields, names and padding of the newc format', (t) => {
  const archive = cpio([
    { name: 'dev', mode: directory },
    { name: 'dev/console', mode: characterDevice, device: [5, 1] },
    { name: 'init', mode: executable, data: '12345' },
    { name: 'sh', mode: symlink, data: 'init' },
    { name: 'empty', mode: file },
  ])
  t.is(archive.length % 4, 0)
  /** @type {string[]} */
  const seen = []
  for (let at = 0; at < archive.length;) {
    t.is(archive.toString('latin1', at, at + 6), '070701')
    const field = (/** @type {number} */ n) =>
      Number.parseInt(archive.toString('latin1', at + 6 + 8 * n, at + 14 + 8 * n), 16)
    const [mode, size, major, minor, nameSize] = [
      field(1),
      field(6),
      field(9),
      field(10),
      field(11),
    ]
    const name = archive.toString('latin1', at + 110, at + 110 + nameSize - 1)
    const data = (at + 110 + nameSize + 3) & ~3
    const text = archive.toString('latin1', data, data + size)
    seen.push([name, mode.toString(8), major, minor, text].join(' '))
    at = (data + size + 3) & ~3
  }
  t.deepEqual(seen, [
    'dev 40755 0 0 ',
    'dev/console 20600 5 1 ',
    'init 100755 0 0 12345',
    'sh 120777 0 0 init',
    'empty 100644 0 0 ',
    'TRAILER!!! 0 0 0 ',
  ])
})

/** @param {readonly number[]} block @param {number} [length] */
function lz4(block, length = block.length) {
  const header = Buffer.alloc(8)
  header.writeUInt32LE(lz4Magic, 0)
  header.writeUInt32LE(length, 4)
  return Buffer.concat([header, Buffer.from(block)])
}

test('LZ4 blocks are unpacked, also matches that overlap themselves', (t) => {
  // Two literals, then a match of 4 + 15 + 255 + 1 at distance 2, then one literal at the end.
  const block = [0x2f, 97, 98, 2, 0, 255, 1, 0x10, 33]
  t.is(unlz4(lz4(block)).toString(), `${'ab'.repeat(1)}${'ab'.repeat(137)}a!`)
})

test('a real LZ4 file and its copy are the same', (t) => {
  const original = readFileSync(process.execPath).subarray(0, 20 << 20)
  const packed = spawnSync('lz4', ['-l', '-c'], { input: original, maxBuffer: 1 << 28 })
  if (packed.error) t.pass('lz4 is not installed: the hand-made blocks above have to do')
  else t.true(unlz4(packed.stdout).equals(original))
})

test('damaged LZ4 data is refused', (t) => {
  t.throws(() => unlz4(lz4([0x10], 4)), { message: /longer than its file/ })
  t.throws(() => unlz4(lz4([0x50, 1, 2])), { message: /literal run leaves/ })
  t.throws(() => unlz4(lz4([0x10, 1, 9, 0])), { message: /match leaves/ })
  t.throws(() => unlz4(lz4([0xf0, 255])), { message: /ends too early/ })
})

test('what is no bzImage is refused', (t) => {
  t.throws(() => vmlinux(Buffer.from('text')), { instanceOf: Failure, message: /not a bzImage/ })
  t.throws(() => vmlinux(Buffer.alloc(4096)), { instanceOf: Failure, message: /not a bzImage/ })
})

test('the typist waits for each prompt and hides the cursor query', (t) => {
  /** @type {string[]} */
  const typed = []
  const typist = new Typist((text) => typed.push(text))
  typist.add('uname\nls')
  let shown = typist.see('Linux #1\n')
  t.deepEqual(typed, [])
  for (const byte of '\r\n~ # \x1b[6nuname\r\nLinux\r\n') shown += typist.see(byte)
  t.deepEqual(typed, ['uname\n'])
  typist.finish('poweroff\n')
  shown += typist.see('~ # ')
  shown += typist.see('ls\r\ninit\r\n~ # ')
  typist.stop()
  t.deepEqual(typed, ['uname\n', 'ls\n', 'poweroff\n'])
  t.is(shown, 'Linux #1\n\r\n~ # uname\r\nLinux\r\n~ # ls\r\ninit\r\n~ # ')
})

test('results of AVA and of cargo are counted', (t) => {
  const tap = new TapCounter()
  const lines = ['TAP version 13', 'ok 1 - a', 'not ok 2 - b', '  ---', '  message: x', '  ...']
  const rest = ['ok 3 - c # SKIP', '', '1..3', '# tests 3', '# pass 1', '# fail 1']
  t.deepEqual(
    [...lines, ...rest].filter((line) => tap.see(line)),
    ['ok 1 - a', ...lines.slice(2), 'ok 3 - c # SKIP'],
  )
  t.deepEqual({ ...tap }, { passed: 1, failed: 1, skipped: 1 })
  const cargo = new CargoCounter()
  cargo.see('test result: ok. 5 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out')
  cargo.see('test result: FAILED. 1 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out')
  t.deepEqual({ ...cargo }, { passed: 6, failed: 3, skipped: 2 })
  t.false(cargo.see('test a::b ... ok'))
  t.true(cargo.see('test a::c ... FAILED'))
})
