import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { execFileSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'

import test from 'ava'

import { keepCode } from '../src/script/keep-code.ts'
import { type LoadedScript, loadScript } from '../src/script/load-script.ts'

const scratch = mkdtempSync(join(tmpdir(), 'load-script-'))
test.after.always(() => rmSync(scratch, { recursive: true, force: true }))

/** A folder with the script `part`. */
function folderOf(name: string, body: string): string {
  const folder = join(scratch, name)
  mkdirSync(folder, { recursive: true })
  const text = `(function(require,module,exports,__urlOf){${body}})`
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 16)
  writeFileSync(join(folder, 'part.script'), `//${digest}\n${text}`)
  return folder
}

/** Loads it in a process of its own: within one, V8 remembers what it compiled. */
function load(folder: string, use?: string, after = ''): LoadedScript {
  const module = new URL('../src/script/load-script.ts', import.meta.url).href
  const options = JSON.stringify({ settledMs: [0], use })
  const program = `
    const { loadScript } = await import(${JSON.stringify(module)})
    const loaded = loadScript(${JSON.stringify(folder)}, 'part', ${options})
    console.log(JSON.stringify(loaded))
    ${after}
    await new Promise((resolve) => setTimeout(resolve, 1))`
  const argv = ['--import=tsx', '--input-type=module', '-e', program]
  return JSON.parse(execFileSync(process.execPath, argv, { encoding: 'utf8' })) as LoadedScript
}

/** What was kept of it, of which there is one. */
function codeOf(folder: string): string {
  const names = readdirSync(join(folder, 'code'))
  if (names.length !== 1) throw new Error(`${names.length} files: ${names.join(' ')}`)
  return join(folder, 'code', names[0]!)
}

const BODY = `
  function twice(x) { return 2 * x }
  module.exports = { twice: twice(21), sep: require('node:path').sep, url: __urlOf('qemu-vmm') }`

test('a script runs, with what it asks for, and what was compiled of it is kept and used', (t) => {
  const folder = folderOf('kept', BODY)
  const exports = { twice: 42, sep: '/', url: `file://${folder}/part.script` }
  t.deepEqual(load(folder), { exports, fromCode: false })
  const kept = readFileSync(codeOf(folder))
  t.deepEqual(load(folder), { exports, fromCode: true })
  t.deepEqual(readFileSync(codeOf(folder)), kept)
})

test('code that was cut off, or is of something else, is not used, and written anew', (t) => {
  const folder = folderOf('damaged', BODY)
  load(folder)
  const path = codeOf(folder)
  const whole = readFileSync(path)
  for (const damaged of [
    whole.subarray(0, 100),
    Buffer.alloc(0),
    Buffer.alloc(whole.length),
    whole.subarray(0, -8),
  ]) {
    writeFileSync(path, damaged)
    const again = load(folder)
    t.false(again.fromCode, `${damaged.length} bytes`)
    t.is((again.exports as { twice: number }).twice, 42)
    t.is(readFileSync(codeOf(folder)).length, whole.length)
    t.true(load(folder).fromCode)
  }
})

test('code is kept again when much more was compiled, and not when little was', (t) => {
  const sum = (count: number): string =>
    Array.from({ length: count }, (_, i) => `x = x * ${i + 2} % 65537`).join(';')
  const body = `
    function base(x) { ${sum(300)}; return x }
    module.exports = { base: base(3), little: () => 1, much(x) { ${sum(100)}; return x } }`
  const folder = folderOf('grows', body)
  load(folder)
  const first = readFileSync(codeOf(folder))
  load(folder, undefined, 'loaded.exports.little()')
  t.true(readFileSync(codeOf(folder)).equals(first))
  load(folder, undefined, 'loaded.exports.much(5)')
  const second = readFileSync(codeOf(folder))
  t.true(second.length > first.length * 1.1, `${first.length} to ${second.length}`)
  t.true(load(folder).fromCode)
  t.true(readFileSync(codeOf(folder)).equals(second))
})

test('what each use of a script compiled is kept for itself', (t) => {
  const folder = folderOf('uses', BODY)
  for (const use of ['kernel', 'firmware', undefined]) {
    t.false(load(folder, use).fromCode, use)
    t.true(load(folder, use).fromCode, use)
  }
  const names = readdirSync(join(folder, 'code')).map((name) => name.replace(/-[0-9a-f-]+$/, ''))
  t.deepEqual(names.toSorted(), ['part', 'part-firmware', 'part-kernel'])
})

test('code of one script is not used for another of the same length', (t) => {
  const folder = folderOf('changed', 'module.exports = { one: 1 }')
  load(folder)
  folderOf('changed', 'module.exports = { two: 2 }')
  t.deepEqual(load(folder), { exports: { two: 2 }, fromCode: false })
})

test('a script without its digest, and none at all, are errors that say so', (t) => {
  const folder = folderOf('bad', BODY)
  writeFileSync(join(folder, 'part.script'), '(function(){})')
  t.throws(() => loadScript(folder, 'part'), { message: /part\.script is damaged: build it again/ })
  t.throws(() => loadScript(folder, 'other'), { code: 'ENOENT' })
})

test('a place where code cannot be kept is no error, and nothing is left half written', async (t) => {
  const folder = join(scratch, 'unwritable')
  writeFileSync(folder, 'a file where the folder would be')
  await t.notThrowsAsync(keepCode(join(folder, 'code', 'x'), Buffer.from('code')))
  const path = join(scratch, 'folder', 'x')
  mkdirSync(path, { recursive: true })
  await t.notThrowsAsync(keepCode(path, Buffer.from('code')))
  t.deepEqual(readdirSync(join(scratch, 'folder')), ['x'])
})

test('what a killed process left of its own is removed once nobody can be at it any more', async (t) => {
  const path = join(scratch, 'abandoned', 'x')
  mkdirSync(join(scratch, 'abandoned'))
  const [old, young] = [`${path}.${randomUUID()}`, `${path}.${randomUUID()}`]
  for (const left of [old, young, `${path}-of-another`]) writeFileSync(left, 'co')
  const before = Date.now() / 1000 - 7200
  utimesSync(old, before, before)
  await keepCode(path, Buffer.from('code'))
  const left = readdirSync(join(scratch, 'abandoned')).toSorted()
  t.deepEqual(left, ['x', basename(young), 'x-of-another'].toSorted())
})
