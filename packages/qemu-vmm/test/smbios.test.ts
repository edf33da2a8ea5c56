import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import test from 'ava'
import * as fc from 'fast-check'

import { openEngine } from '../src/machine/accel.ts'
import { checkConfig } from '../src/machine/config-check.ts'
import type { MachineConfig } from '../src/machine/config.ts'
import { createMemoryMap } from '../src/machine/memory-map.ts'
import { machineKind } from '../src/machine/machine-type.ts'
import { createSmbios } from '../src/machine/smbios/create.ts'
import { NIL_UUID } from '../src/machine/uuid.ts'
import { ramOf } from '../src/machine/firmware-tables.ts'
import { resolveTopology } from '../src/machine/topology.ts'
import { commandLine } from './support/command-line.ts'
import { scratchFolder } from './support/images.ts'
import { peerFile } from './support/peer-files.ts'
import { hasPeer, startPeer } from './support/qtest.ts'

const compared = hasPeer ? test : test.skip
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

const { config: configOf, refusal } = commandLine('-nographic')

/** The structures that our machine of a command line tells firmware. */
function ours(args: readonly string[]): Uint8Array {
  const config: MachineConfig = configOf(...args)
  const kind = machineKind(config.machine)
  const kvm = openEngine({ accel: 'tcg', log: () => {} })
  const leaf = kvm.cpuidForModel('qemu64').find((one) => one.function === 1)!
  kvm.close()
  const { table } = createSmbios(
    {
      machine: kind.name,
      product: kind.product,
      uuid: config.uuid ?? NIL_UUID,
      memoryBytes: config.memory,
      ram: ramOf(createMemoryMap(config.memory, kind.board)),
      topology: resolveTopology(config.cpus ?? 1, kind.name),
      cpuId: leaf,
      smbios: config.smbios ?? [],
    },
    0,
    { describesFirmware: false },
  )
  return table
}

/** Those of QEMU's machine. */
async function theirs(args: readonly string[]): Promise<Uint8Array> {
  const peer = startPeer(...args)
  try {
    return await peerFile(peer, 'etc/smbios/smbios-tables')
  } finally {
    peer.close()
  }
}

const STRUCTURE = Buffer.from([0x80, 6, 0, 0x80, 1, 0x2a, 0x61, 0, 0])
const CHASSIS = Buffer.from([3, 22, 0, 3, ...new Uint8Array(18), 0, 0])
writeFileSync(join(folder, 'oem'), STRUCTURE)
writeFileSync(join(folder, 'chassis'), CHASSIS)
writeFileSync(join(folder, 'word'), 'from a file')

for (const [what, ...options] of [
  ['a machine that is told nothing', '-m 128'],
  ['q35 with RAM above 4 GiB', '-m 5G -M q35'],
  ['modules of 16 GiB, and sockets beyond 16', '-m 20G -smp 18,sockets=18'],
  [
    'firmware and system',
    '-smbios type=0,vendor=A,version=B,date=C,release=1.2,uefi=on',
    '-smbios type=1,manufacturer=a,product=b,version=c,serial=d,sku=e,family=f',
    '-smbios type=1,uuid=00112233-4455-6677-8899-aabbccddeeff,product=again',
  ],
  [
    'board, chassis, processor, words and memory',
    '-smbios type=2,manufacturer=m,serial=a,asset=b,location=c',
    '-smbios type=3,serial=a,asset=b,sku=x',
    '-smbios type=4,sock_pfx=S,serial=q,asset=y,part=z',
    '-smbios type=4,max-speed=3000,current-speed=1500,processor-id=0x123456789abcdef0',
    `-smbios type=11,value=x,,y,value=z -smbios type=11,path=${join(folder, 'word')}`,
    '-smbios type=17,loc_pfx=L,bank=B,serial=1,asset=2,part=3,speed=3200',
  ],
  ['a board of which nothing is said', '-smbios type=2'],
  [
    'structures from files',
    `-smbios file=${join(folder, 'oem')} -smbios file=${join(folder, 'chassis')}`,
    '-smbios type=1,serial=',
  ],
] as const) {
  const args = options.join(' ').split(' ')
  compared(`the structures are QEMU's: ${what}`, async (t) => {
    t.is(Buffer.from(ours(args)).toString('hex'), Buffer.from(await theirs(args)).toString('hex'))
  })
}

test('-smbios refuses what no structure can hold', (t) => {
  for (const [value, message] of [
    ['', /Must specify type= or file=/],
    ['serial=1', /Must specify type= or file=/],
    ['type=5', /SMBIOS type 5 \(valid: 0, 1, 2/],
    ['type=1,colour=red', /Invalid parameter 'colour' \(valid: manufacturer/],
    ['type=1,uuid=123', /Invalid UUID '123'/],
    ['type=0,release=1', /'release' .* is '1': major and minor/],
    ['type=0,release=1.256', /is 1.256; it can be 0 to 255/],
    ['type=4,max-speed=65536', /it can be 0 to 65535/],
    ['type=4,processor-id=0x10000000000000000', /expects a number/],
    ['type=17,speed=fast', /expects a number/],
    ['type=11,word=x', /Invalid parameter 'word' \(valid: value, path\)/],
    ['file=/nonexistent', /Cannot read SMBIOS file \/nonexistent: No such file/],
    [`file=${join(folder, 'word')}`, /cut off|two zeros/],
    [`file=${join(folder, 'oem')},type=1`, /Invalid parameter 'type' beside 'file'/],
  ] as const) {
    t.regex(refusal('-smbios', value), message, value)
  }
  const file = `file=${join(folder, 'chassis')}`
  t.regex(refusal('-smbios', file, '-smbios', 'type=3,serial=1'), /structure 3 is given in its/)
})

test('a program is told what is wrong with its structures', (t) => {
  const check = (smbios: MachineConfig['smbios']): void =>
    checkConfig({ memory: 64 << 20, ...(smbios === undefined ? {} : { smbios }) })
  t.throws(() => check([{ type: 1, serial: 'a\0b' }]), { code: 'E_CONFIG', message: /zero byte/ })
  t.throws(() => check([{ type: 4, maxSpeed: -1 }]), { code: 'E_CONFIG' })
  t.throws(() => check([{ type: 9 } as never]), { code: 'E_CONFIG', message: /no fields/ })
  t.notThrows(() => check([{ type: 11, values: ['x'] }, { bytes: STRUCTURE }]))
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        check([{ bytes }])
      } catch (error) {
        t.is((error as { code?: string }).code, 'E_CONFIG')
      }
    }),
  )
  const words = Array.from({ length: 300 }, () => 'x'.repeat(250))
  const many = { machine: 'm', product: 'p', uuid: NIL_UUID, memoryBytes: 1 << 27 }
  t.throws(
    () =>
      createSmbios(
        { ...many, topology: resolveTopology(1, 'pc'), smbios: [{ type: 11, values: words }] },
        0,
      ),
    { code: 'E_CONFIG', message: /can be 65535/ },
  )
})
