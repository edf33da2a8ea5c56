import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'

import { machineConfig } from '../src/cli/machine-config.ts'
import { parseCommand } from '../src/cli/parse.ts'
import { checkConfig } from '../src/machine/config-check.ts'
import { SeededEntropy } from '../src/machine/entropy.ts'
import { Machine } from '../src/machine/machine.ts'
import type { ObjectConfig } from '../src/objects/config.ts'
import { ObjectRegistry } from '../src/objects/registry.ts'
import { GuestCode } from './support/guest-code.ts'
import { multiboot, scratchFolder, writeImage } from './support/images.ts'

const MIB = 1 << 20
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))
const kernel = writeImage(folder, 'kernel', multiboot(new GuestCode().halt().bytes()))

function config(...argv: string[]): ReturnType<typeof machineConfig> {
  const command = parseCommand(['-kernel', kernel, '-display', 'none', '-accel', 'tcg', ...argv])
  if (command.kind !== 'run') throw new Error(command.text)
  return {
    ...machineConfig(command.settings, { serials: [], parallels: [], devices: {} }, () => {}),
    host: 'inline',
  }
}

async function stats(...argv: string[]): Promise<Record<string, number>> {
  const made = config(...argv)
  checkConfig(made)
  const machine = await Machine.create(made, {
    status() {},
    event() {},
    exited() {},
    log() {},
  })
  try {
    return await machine.stats()
  } finally {
    await machine.quit()
  }
}

function registry(...objects: ObjectConfig[]): ObjectRegistry {
  return new ObjectRegistry(objects, new SeededEntropy(7), {
    observe: () => () => {},
    addGate: () => () => {},
    report() {},
  })
}

test('rng-builtin has the bytes of the machine', async (t) => {
  const objects = registry({ type: 'rng-builtin', id: 'r' })
  const [got, expected] = [new Uint8Array(32), new Uint8Array(32)]
  await objects.rng('r').fill(got)
  new SeededEntropy(7).fill(expected)
  t.deepEqual(got, expected)
  objects.close()
})

test('rng-random has the bytes of a file, and says when there are no more', async (t) => {
  const filename = writeImage(folder, 'bytes', 'abcdefgh')
  const objects = registry(
    { type: 'rng-random', id: 'file', filename },
    { type: 'rng-random', id: 'default' },
  )
  const target = Buffer.alloc(5)
  await objects.rng('file').fill(target)
  t.is(target.toString(), 'abcde')
  await t.throwsAsync(objects.rng('file').fill(target), {
    code: 'E_RNG',
    message: /bytes': the file is at its end/,
  })
  const big = Buffer.alloc(100_000)
  await objects.rng('default').fill(big)
  t.true(new Set(big).size === 256)
  objects.close()
  await t.throwsAsync(async () => objects.rng('default').fill(big), { code: 'E_CONFIG' })
})

test('rng-random waits for a FIFO, until it is closed', async (t) => {
  const filename = join(folder, 'fifo')
  t.is(spawnSync('mkfifo', [filename]).status, 0)
  const objects = registry({ type: 'rng-random', id: 'r', filename })
  const target = Buffer.alloc(4)
  const filled = objects.rng('r').fill(target)
  spawnSync('sh', ['-c', 'printf wxyz > "$0"', filename])
  await filled
  t.is(target.toString(), 'wxyz')
  const waits = objects.rng('r').fill(target)
  const refused = t.throwsAsync(waits, { code: 'E_RNG', message: /it was closed/ })
  objects.close()
  await refused
})

test('what cannot be a source is refused', (t) => {
  for (const [filename, message] of [
    ['/nonexistent', /Could not open '\/nonexistent': .*no such file/i],
    [folder, /Could not open .*: it is a directory/],
  ] as const) {
    t.throws(() => registry({ type: 'rng-random', id: 'r', filename }), {
      code: 'E_FILE',
      message,
    })
  }
  const objects = registry({ type: 'memory-backend-ram', id: 'm', size: MIB })
  t.throws(() => objects.rng('m'), { message: /'m' is a memory-backend-ram, not an rng/ })
  t.throws(() => objects.rng('x'), { message: /there is no object 'x'/ })
})

test('guest memory comes from the backend that the machine names', async (t) => {
  for (const type of ['memory-backend-ram', 'memory-backend-memfd,share=off']) {
    const backend = `${type},id=m,size=32M,prealloc=on`
    const { memoryBytes, residentBytes } = await stats('-object', backend, '-M', 'memory-backend=m')
    t.is(memoryBytes, 32 * MIB, 'its size is the default of -m')
    t.true(residentBytes! >= 32 * MIB, type)
  }
  t.true((await stats('-m', '32', '-mem-prealloc')).residentBytes! >= 32 * MIB)
  t.true((await stats('-m', '32')).residentBytes! < 32 * MIB)
})

test('memory-backend-file: the guest writes to the file with share=on only', async (t) => {
  for (const share of ['off', 'on']) {
    const path = join(folder, `ram-${share}`)
    writeFileSync(path, '')
    const backend = `memory-backend-file,id=m,size=32M,mem-path=${path},share=${share}`
    await stats('-m', '32', '-object', backend, '-machine', 'memory-backend=m')
    t.is(statSync(path).size, 32 * MIB)
    // The ACPI root pointer that firmware leaves for the guest.
    t.is(readFileSync(path).includes('RSD PTR '), share === 'on')
  }
  const { memoryBytes } = await stats('-m', '32', '-mem-path', folder)
  t.is(memoryBytes, 32 * MIB)
  const short = writeImage(folder, 'short', 'x')
  await t.throwsAsync(stats('-m', '32', '-mem-path', short), {
    code: 'E_MEMORY_SIZE',
    message: /backing store size 1 bytes of '.*short' does not match/,
  })
  await t.throwsAsync(stats('-m', '32', '-mem-path', '/nonexistent/x'), {
    code: 'E_FILE',
    message: /cannot make guest memory of '\/nonexistent\/x': .*no such file/i,
  })
  await t.throwsAsync(stats('-m', '32', '-mem-path', '/dev/null'), {
    code: 'E_FILE',
    message: /neither a file nor a folder/,
  })
})

test('large pages are refused with what is needed, what is free and the remedy', async (t) => {
  const meminfo = readFileSync('/proc/meminfo', 'utf8')
  const free = Number(/^HugePages_Free:\s*([0-9]+)/m.exec(meminfo)?.[1])
  const backend = (size: string): string[] => [
    '-object',
    `memory-backend-memfd,id=m,size=${size},hugetlb=on`,
    '-M',
    'memory-backend=m',
  ]
  await t.throwsAsync(stats(...backend('33M')), {
    code: 'E_MEMORY_SIZE',
    message: /not a multiple of a large page, .*; use 35651584 bytes/,
  })
  if (free >= 16) {
    t.is((await stats(...backend('32M'))).memoryBytes, 32 * MIB)
    return
  }
  await t.throwsAsync(stats(...backend('32M')), {
    code: 'E_MEMORY_SIZE',
    message: /needs 16 large pages, and \d+ are free; as root write at least .*nr_hugepages/,
  })
  await t.throwsAsync(stats(...backend('32M,hugetlbsize=64M')), {
    message: /leave out hugetlbsize/,
  })
})

test('wrong objects are refused', (t) => {
  const cases: [string[], RegExp][] = [
    [['-object', 'rng-random'], /Parameter 'id' is missing/],
    [['-object', 'foo,id=x'], /Parameter 'qom-type' does not accept value 'foo'/],
    [['-object', 'rng-randm,id=x'], /did you mean 'rng-random'/],
    [['-object', 'rng-builtin,id=x,filename=y'], /Invalid parameter 'filename'/],
    [['-object', 'rng-random,id=1'], /expects an identifier/],
    [['-object', 'rng-builtin,id=x', '-object', 'rng-random,id=x'], /duplicate property 'x'/],
    [['-object', 'memory-backend-ram,id=m'], /Parameter 'size' is missing/],
    [['-object', 'memory-backend-ram,id=m,size=x'], /'size' expects a non-negative number/],
    [['-object', 'memory-backend-file,id=m,size=1M'], /Parameter 'mem-path' is missing/],
    [['-object', 'memory-backend-ram,id=m,size=1M,policy=bind'], /'policy' is not supported/],
    [['-object', 'memory-backend-ram,id=m,size=1M,hugetlb=on'], /Invalid parameter 'hugetlb'/],
    [['-object', 'memory-backend-memfd,id=m,size=2M,hugetlbsize=2M'], /needs 'hugetlb=on'/],
    [['-M', 'memory-backend=m', '-mem-path', '/tmp'], /'-mem-path' can't be used together/],
    [['-M', 'memory-backend=m', '-mem-prealloc'], /'-mem-prealloc' can't be used together/],
  ]
  for (const [argv, message] of cases) t.throws(() => config(...argv), { message }, argv.join(' '))
  const checked: [string[], RegExp][] = [
    [['-M', 'memory-backend=m'], /Memory backend 'm' not found/],
    [['-object', 'rng-builtin,id=m', '-M', 'memory-backend=m'], /Memory backend 'm' not found/],
    [['-object', 'memory-backend-ram,id=m,size=64M'], /'m' is used by nothing/],
    [
      ['-m', '128', '-object', 'memory-backend-ram,id=m,size=64M', '-M', 'memory-backend=m'],
      /Machine memory size does not match the size of the memory backend/,
    ],
  ]
  for (const [argv, message] of checked) {
    t.throws(() => checkConfig(config(...argv)), { message }, argv.join(' '))
  }
  const wrong = { type: 'rng-random', id: 'r', file: 'x' } as unknown as ObjectConfig
  t.throws(() => checkConfig({ memory: 16 * MIB, kernel, objects: [wrong] }), {
    message: /'r' of type rng-random has no option 'file'/,
  })
})

test('-object help lists the types, and each type its keys', (t) => {
  const print = (...argv: string[]): string => {
    const command = parseCommand(argv)
    return command.kind === 'print' ? command.text : ''
  }
  t.regex(
    print('-object', 'help'),
    /^List of user creatable objects:\n.*\n {2}rng-random\n {2}secret$/s,
  )
  t.regex(print('-object', 'rng-random,help'), /^rng-random options:\n {2}filename=<string>/)
  t.regex(print('-object', 'memory-backend-memfd,help'), / {2}hugetlb=<bool> .*Use huge pages/)
  t.is(print('-object', 'rng-builtin,help'), 'There are no options for rng-builtin.')
})
