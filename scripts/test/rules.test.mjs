// The rules must fail on what they forbid: each test plants a small tree that breaks one.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import test from 'ava'
import { checkCrates, dependenciesOf } from '../check/crates.mjs'
import { checkImports, importsOf } from '../check/imports.mjs'
import { checkSizes } from '../check/size.mjs'
import { root } from '../lib/paths.mjs'

/**
 * @param {import('ava').ExecutionContext} t
 * @param {Record<string, string>} files
 */
function plant(t, files) {
  const folder = mkdtempSync(join(tmpdir(), 'rules-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true })
    writeFileSync(join(folder, name), text)
  }
  return folder
}

const manifest = JSON.stringify({
  dependencies: { 'kvm-core': 'workspace:*', saxes: '6.0.0' },
  devDependencies: { ava: '7.0.0' },
})

/** @param {string} folder @param {string} file @param {string} source */
const treeWith = (folder, file, source) => ({
  [`${folder}/package.json`]: manifest,
  [`${folder}/${file}`]: source,
})

test('the repository keeps the import rules', (t) => {
  t.deepEqual(checkImports(root), [])
  t.deepEqual(checkCrates(root), [])
})

test('allowed imports are accepted', (t) => {
  const source = `import { open } from 'kvm-core'
import { asm } from 'kvm-core/testing'
import type { A } from './a.ts'
export * from './b/c.ts'
import { readFile } from 'node:fs/promises'
import 'saxes'
`
  t.deepEqual(checkImports(plant(t, treeWith('packages/qemu-vmm', 'src/x.ts', source))), [])
  const own = `import test from 'ava'\nimport { x } from '../src/x.ts'\n`
  t.deepEqual(checkImports(plant(t, treeWith('packages/qemu-vmm', 'test/x.test.ts', own))), [])
  const self = `import { VirtualMachine } from 'qemu-vmm'\n`
  t.deepEqual(checkImports(plant(t, treeWith('packages/qemu-vmm', 'test/x.test.ts', self))), [])
})

const forbidden = [
  ['packages/qemu-vmm', 'src/x.ts', `import { vm } from 'qemu-vmm'`, 'must not be imported'],
  ['packages/qemu-vmm', 'test/x.ts', `import x from 'qemu-vmm/src/x.ts'`, 'no published entry'],
  ['packages/kvm-core', 'src/x.ts', `import { vm } from 'qemu-vmm'`, 'must not be imported'],
  [
    'packages/qemu-vmm',
    'src/x.ts',
    `import x from '../../kvm-core/src/vm.ts'`,
    'leaves its package',
  ],
  ['packages/qemu-vmm', 'src/x.ts', `import x from 'kvm-core/dist/vm.js'`, 'no published entry'],
  ['packages/qemu-vmm', 'src/x.ts', `const x = await import('kvm-core/src/vm.ts')`, 'no published'],
  ['packages/qemu-vmm', 'src/x.ts', `export {\n  a,\n} from '../test/a.ts'`, 'leaves src'],
  ['packages/qemu-vmm', 'src/x.ts', `import { y } from './y.js'`, 'has no .ts ending'],
  ['packages/qemu-vmm', 'src/x.ts', `import test from 'ava'`, 'development dependency'],
  ['packages/qemu-vmm', 'src/x.ts', `import chalk from 'chalk'`, 'is not declared'],
  ['packages/qemu-vmm', 'src/x.ts', `import fs from 'fs'`, 'is not declared'],
  [
    'e2e',
    'test/x.test.ts',
    `import x from '../../packages/qemu-vmm/src/x.ts'`,
    'leaves its package',
  ],
]

for (const [folder = '', file = '', source = '', problem = ''] of forbidden) {
  test(`${folder}/${file} with ${source.replaceAll('\n', ' ')} is refused`, (t) => {
    const found = checkImports(plant(t, treeWith(folder, file, source)))
    t.is(found.length, 1)
    t.true(found[0]?.includes(problem), found[0])
  })
}

test('comments and strings are no imports', (t) => {
  t.deepEqual(
    importsOf(`// import a from 'a'\n/* import b from 'b' */\nconst c = "from 'c'"\n`),
    [],
  )
})

const library = '#![forbid(unsafe_code)]\n'

test('dependency tables are read in all their forms', (t) => {
  const text = `[package]
name = "kvm-vm"
[dependencies]
kvm-abi.workspace = true
memory = { package = "kvm-memory", path = "../memory" }
[dependencies.kvm-cpu]
path = "../cpu"
[target.'cfg(unix)'.dependencies]
libc = "0.2"
[dev-dependencies]
kvm-decode = { workspace = true }
`
  const names = ['kvm-abi', 'kvm-memory', 'kvm-cpu', 'libc', 'kvm-decode']
  t.deepEqual(dependenciesOf(text), names)
})

const crates = [
  ['memory', '[dependencies]\nkvm-cpu.workspace = true\n', library, 'must not depend on cpu'],
  [
    'decode',
    '[dependencies]\nkvm-irqchip.workspace = true\n',
    library,
    'must not depend on irqchip',
  ],
  ['cpu', '[dev-dependencies]\nkvm-vm = "*"\n', library, 'must not depend on vm'],
  ['vm', '[dependencies]\nnapi = "3"\n', '', 'must not know Node-API'],
  ['cpu', '', 'pub fn x() {}\n', 'lacks #![forbid(unsafe_code)]'],
  ['cpu', '', `${library}fn x() { unsafe { y() } }\n`, 'unsafe is not allowed'],
  ['colour', '', library, 'has no place in the layers'],
]

for (const [crate = '', cargo = '', source = '', problem = ''] of crates) {
  test(`a crate ${crate} that ${problem} is refused`, (t) => {
    const folder = `packages/kvm-core/crates/${crate}`
    const files = { [`${folder}/Cargo.toml`]: cargo, [`${folder}/src/lib.rs`]: source }
    const found = checkCrates(plant(t, files))
    t.true(
      found.some((text) => text.includes(problem)),
      found.join('\n'),
    )
  })
}

test('files that are too long or too large are refused', (t) => {
  const folder = plant(t, {
    'long.ts': 'x\n'.repeat(401),
    'fits.ts': 'x\n'.repeat(400),
    'long.rs': 'x\n'.repeat(601),
    'large.md': 'x'.repeat(20 * 1024 + 1),
    'generated/large.ts': 'x'.repeat(30_000),
    'table.rs': `// @generated\n${'x\n'.repeat(1000)}`,
    'pnpm-lock.yaml': 'x'.repeat(30_000),
  })
  t.deepEqual(
    checkSizes(folder).map((text) => text.split(' ')[0]),
    ['large.md', 'long.rs', 'long.ts'],
  )
})
