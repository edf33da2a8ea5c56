import * as fc from 'fast-check'
import test from 'ava'
import { open } from 'kvm-core'
import type { CpuidEntry } from 'kvm-core'

import { parseCommand } from '../src/cli/parse.ts'
import { madt } from '../src/machine/acpi/tables.ts'
import { cpuidOf } from '../src/machine/cpuid-topology.ts'
import { createSmbios } from '../src/machine/smbios/create.ts'
import { apicId, resolveTopology } from '../src/machine/topology.ts'
import type { CpuTopology, SmpConfig } from '../src/machine/topology.ts'

const MACHINE = 'pc-i440fx-7.2'

function topology(config: SmpConfig | number): CpuTopology {
  return resolveTopology(config, MACHINE)
}

function smp(text: string): CpuTopology {
  const command = parseCommand(['-kernel', 'k', '-nographic', '-smp', text])
  if (command.kind !== 'run') throw new Error(command.text)
  return topology(command.settings.smp)
}

test('what is not given is worked out as QEMU 7.2 does', (t) => {
  const expected: [string, string][] = [
    ['1', '1/1 1 1 1 1'],
    ['4', '4/4 1 1 4 1'],
    ['4,sockets=2', '4/4 2 1 2 1'],
    ['4,sockets=4', '4/4 4 1 1 1'],
    ['4,cores=2', '4/4 2 1 2 1'],
    ['4,threads=2', '4/4 1 1 2 2'],
    ['8,sockets=2,cores=2', '8/8 2 1 2 2'],
    ['8,dies=2,threads=2', '8/8 1 2 2 2'],
    ['sockets=2', '2/2 2 1 1 1'],
    ['cores=3,threads=2', '6/6 1 1 3 2'],
    ['2,maxcpus=8', '2/8 1 1 8 1'],
    ['maxcpus=8,sockets=2', '8/8 2 1 4 1'],
    ['cpus=3,maxcpus=4,cores=2', '3/4 2 1 2 1'],
    ['0x10', '16/16 1 1 16 1'],
    ['255', '255/255 1 1 255 1'],
  ]
  for (const [text, result] of expected) {
    const { cpus, maxcpus, sockets, dies, cores, threads } = smp(text)
    t.is(`${cpus}/${maxcpus} ${sockets} ${dies} ${cores} ${threads}`, result, text)
  }
})

test('numbers that are out of range or do not fit are refused with the limit', (t) => {
  const refused: [string, RegExp][] = [
    ['0', /cpus is 0, .* greater than zero.* 1 to 255 processors/],
    ['-1', /cpus is -1, .* greater than zero/],
    ['4,cores=0', /cores is 0/],
    ['256', /Invalid SMP CPUs 256\. The max CPUs supported by machine 'pc-i440fx-7\.2' is 255/],
    ['10000', /Invalid SMP CPUs 10000\. .* is 255/],
    ['99999999999999999999', /integer|max CPUs/],
    ['maxcpus=256,cpus=1', /Invalid SMP CPUs 256/],
    ['sockets=16,cores=16,threads=2', /Invalid SMP CPUs 512\. .* is 255/],
    ['two', /'smp\.cpus' expects integer, not 'two'/],
    ['1.5', /'smp\.cpus' expects integer, not '1\.5'/],
    ['2,cores=', /'smp\.cores' expects integer/],
    ['4,sockets=3', /sockets \(3\) \* dies \(1\) \* cores \(1\) \* threads \(1\) != maxcpus \(4\)/],
    ['2,maxcpus=1', /== maxcpus \(1\) < smp_cpus \(2\)/],
    ['2,clusters=2', /clusters not supported/],
    ['2,core=2', /Invalid parameter 'core' \(did you mean 'cores'\?\)/],
    ['sockets=85,cores=3', /APIC ID 338, and the highest is 254/],
  ]
  for (const [text, message] of refused) {
    const error = t.throws(() => smp(text), undefined, text)
    t.regex(error.message, message)
    t.true(error.message.startsWith(`-smp ${text}: `), error.message)
  }
  t.throws(() => topology({ cpu: 2 } as SmpConfig), { code: 'E_CPUS', message: /no 'cpu'/ })
  t.throws(() => topology(Number.NaN), { code: 'E_CPUS', message: /'NaN'/ })
})

const anyTopology = fc
  .record({
    sockets: fc.integer({ min: 1, max: 4 }),
    dies: fc.integer({ min: 1, max: 3 }),
    cores: fc.integer({ min: 1, max: 5 }),
    threads: fc.integer({ min: 1, max: 3 }),
  })
  .filter(({ sockets, dies, cores, threads }) => sockets * dies * cores * threads <= 64)
  .map((levels) => topology(levels))

test('APIC ids are all different and grow with the index', (t) => {
  fc.assert(
    fc.property(anyTopology, (shape) => {
      const ids = Array.from({ length: shape.maxcpus }, (_, i) => apicId(shape, i))
      t.is(ids[0], 0)
      for (const [i, id] of ids.entries()) t.true(i === 0 || id > ids[i - 1]!)
    }),
  )
})

const kvm = open({ engine: 'soft' })
test.after.always(() => kvm.close())

function leaf(entries: readonly CpuidEntry[], number: number, index: number = 0): CpuidEntry {
  const found = entries.find((entry) => entry.function === number && entry.index === index)
  if (found === undefined) throw new Error(`there is no leaf ${number.toString(16)}.${index}`)
  return found
}

test('CPUID: guests that follow the manuals find the arrangement again', (t) => {
  const model = kvm.cpuidForModel('max', {})
  fc.assert(
    fc.property(anyTopology, (shape) => {
      const { sockets, dies, cores, threads } = shape
      for (let index = 0; index < shape.cpus; index++) {
        const id = apicId(shape, index)
        const entries = cpuidOf(model, shape, id)
        const one = leaf(entries, 1)
        t.is(one.ebx >>> 24, id)
        t.is((one.ebx >>> 16) & 0xff, dies * cores * threads)
        t.is((one.edx >>> 28) & 1, dies * cores * threads > 1 ? 1 : 0)
        const [smt, core] = [leaf(entries, 0xb, 0), leaf(entries, 0xb, 1)]
        t.deepEqual([smt.ebx, smt.ecx, smt.edx], [threads, 0x100, id])
        t.deepEqual([core.ebx, core.ecx, core.edx], [dies * cores * threads, 0x201, id])
        // The place among the others, read off the id with the shifts that the leaf gives.
        const thread = id & ((1 << smt.eax) - 1)
        const socket = id >> core.eax
        t.is(thread, index % threads)
        t.is(socket, Math.floor(index / (dies * cores * threads)))
        t.true(socket < sockets)
        const sizes = leaf(entries, 0x8000_0008)
        const isAlone = dies * cores * threads === 1
        t.is(sizes.ecx & 0xff, dies * cores * threads - 1)
        t.is((sizes.ecx >> 12) & 0xf, isAlone ? 0 : core.eax)
        t.is((leaf(entries, 0x8000_0001).ecx >> 1) & 1, isAlone ? 0 : 1)
        if (dies === 1) continue
        t.true(leaf(entries, 0).eax >= 0x1f)
        const die = leaf(entries, 0x1f, 1)
        t.is((id & ((1 << core.eax) - 1)) >> die.eax, Math.floor(index / (cores * threads)) % dies)
        t.is(leaf(entries, 0x1f, 2).ecx, 0x502)
      }
    }),
    { numRuns: 30 },
  )
})

test('CPUID: the caches of an Intel processor are shared by the threads of a core', (t) => {
  const words = { ebx: 0x756e_6547, edx: 0x4965_6e69, ecx: 0x6c65_746e }
  const model: CpuidEntry[] = [
    { function: 0, index: 0, flags: 0, eax: 0xd, ...words },
    { function: 4, index: 0, flags: 1, eax: 0x121, ebx: 0, ecx: 0, edx: 0 },
    { function: 4, index: 1, flags: 1, eax: 0, ebx: 0, ecx: 0, edx: 0 },
    { function: 0x8000_0001, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 },
    { function: 0x8000_0008, index: 0, flags: 0, eax: 0, ebx: 0, ecx: 0, edx: 0 },
  ]
  const entries = cpuidOf(model, topology({ cores: 4, threads: 2 }), 3)
  t.is(leaf(entries, 4, 0).eax, (0x121 | (1 << 14) | (3 << 26)) >>> 0)
  t.is(leaf(entries, 4, 1).eax, 0, 'the end of the list stays the end')
  t.is(leaf(entries, 0x8000_0001).ecx, 0, "AMD's bits are not Intel's")
  t.is(leaf(entries, 0x8000_0008).ecx, 0)
})

test('MADT: each place has a local APIC, enabled where there is a processor', (t) => {
  const table = madt({ topology: topology({ cpus: 3, sockets: 2, cores: 3, maxcpus: 6 }) })
  const entries: number[][] = []
  for (let at = 44; at < table.length; at += table[at + 1]!) {
    entries.push([...table.subarray(at, at + table[at + 1]!)])
  }
  t.deepEqual(
    entries.filter(([type]) => type === 0).map(([, , uid, id, flags]) => [uid, id, flags]),
    [
      [0, 0, 1],
      [1, 1, 1],
      [2, 2, 1],
      [3, 4, 0],
      [4, 5, 0],
      [5, 6, 0],
    ],
  )
})

test('SMBIOS: one processor structure for each socket that is populated', (t) => {
  const config = { machine: MACHINE, product: 'PC', uuid: '00112233-4455-6677-8899-aabbccddeeff' }
  const shape = topology({ cpus: 6, sockets: 2, dies: 2, cores: 2, threads: 2, maxcpus: 16 })
  for (const [cpus, sockets] of [
    [6, 1],
    [9, 2],
  ] as const) {
    const { table } = createSmbios(
      { ...config, memoryBytes: 1 << 29, topology: { ...shape, cpus } },
      0xf_0000,
    )
    const found: number[][] = []
    for (let at = 0; at < table.length;) {
      if (table[at] === 4) found.push([...table.subarray(at + 35, at + 38)])
      at = Buffer.from(table).indexOf('\0\0', at + table[at + 1]!) + 2
    }
    t.deepEqual(
      found,
      Array.from({ length: sockets }, () => [4, 4, 8]),
    )
  }
})

test('-smp help lists the keys', (t) => {
  const command = parseCommand(['-smp', 'help'])
  t.true(command.kind === 'print' && command.text.includes('  maxcpus=<num>'))
})
