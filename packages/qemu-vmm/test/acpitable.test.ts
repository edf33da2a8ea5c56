import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

import test from 'ava'

import { checkConfig } from '../src/machine/config-check.ts'
import { licenceOem } from '../src/machine/acpi/user-tables.ts'
import { acpiFiles } from '../src/machine/firmware-files.ts'
import { createFirmwareTables } from '../src/machine/firmware-tables.ts'
import { tableFacts } from './support/table-facts.ts'
import { commandLine } from './support/command-line.ts'
import { scratchFolder } from './support/images.ts'
import { peerFile } from './support/peer-files.ts'
import { hasPeer, startPeer } from './support/qtest.ts'

const compared = hasPeer ? test : test.skip
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))
const { config: configOf, refusal } = commandLine('-nographic')

const path = (name: string): string => join(folder, name)
writeFileSync(path('body'), 'a body of some bytes')
writeFileSync(path('more'), ' and more')
writeFileSync(path('short'), 'x'.repeat(35))
writeFileSync(path('long'), new Uint8Array(65_500))
// A header with a wrong length and no checksum.
const header = Buffer.alloc(40)
header.write('SSDT', 0)
header.writeUInt32LE(99, 4)
header.write('MAKER TABLE-01', 10)
writeFileSync(path('table'), header)

const SLIC = `sig=SLIC,oem_id=Maker,oem_table_id=Licensed,data=${path('body')}`

for (const args of [
  [`data=${path('body')}`],
  [`sig=TEST,rev=3,oem_id=A,oem_table_id=B,oem_rev=0x1234,data=${path('body')}:${path('more')}`],
  [`asl_compiler_id=COMP,asl_compiler_rev=77,data=${path('body')}`],
  [`file=${path('table')}`],
  [`file=${path('table')},sig=XXXX,rev=2`, `data=${path('more')}`],
  [SLIC],
]) {
  compared(
    `tables of the user's are QEMU's: ${args.join(' ').replaceAll(folder, '')}`,
    async (t) => {
      const options = args.flatMap((value) => ['-acpitable', value])
      const peer = startPeer(...options)
      const theirs = await peerFile(peer, 'etc/acpi/tables').finally(() => peer.close())
      const ours = configOf(...options).acpiTables ?? []
      t.is(ours.length, args.length)
      for (const table of ours)
        t.true(theirs.includes(Buffer.from(table)), Buffer.from(table).toString('hex'))
      t.notThrows(() => checkConfig({ memory: 64 << 20, acpiTables: ours }))
      const all = acpiFiles({ ...tableFacts, acpiTables: ours, oem: licenceOem(ours) })
      const files = all.find(({ name }) => name === 'etc/acpi/tables')!.data
      for (const table of ours) t.true(Buffer.from(files).includes(Buffer.from(table)))
      // Who made the machine, by the tables that a licence is compared with.
      for (const signature of ['FACP', 'RSDT']) {
        const maker = (tables: Uint8Array): string => {
          const at = Buffer.from(tables).indexOf(signature)
          return Buffer.from(tables.subarray(at + 10, at + 24)).toString('latin1')
        }
        t.is(maker(files), maker(theirs), signature)
      }
    },
  )
}

test('a kernel without firmware finds them, too', (t) => {
  const acpiTables = configOf('-acpitable', SLIC).acpiTables ?? []
  const { bytes, rsdpGpa, gpa } = createFirmwareTables({ ...tableFacts, acpiTables })
  const view = new DataView(bytes.buffer, bytes.byteOffset)
  const root = view.getUint32(rsdpGpa - gpa + 16, true) - gpa
  const tables = (view.getUint32(root + 4, true) - 36) / 4
  const last = view.getUint32(root + 36 + 4 * (tables - 1), true) - gpa
  t.deepEqual(bytes.subarray(last, last + acpiTables[0]!.length), acpiTables[0])
})

test('-acpitable refuses what no table can be', (t) => {
  for (const [value, message] of [
    ['sig=TEST', /requires one of 'data' or 'file'/],
    [`data=${path('body')},file=${path('table')}`, /requires one of/],
    [`file=${path('short')}`, /too short: 35 bytes/],
    [`data=${path('long')}`, /too big, requested: 65536, max: 65535/],
    ['data=/nonexistent', /can't open file \/nonexistent: No such file/],
    [`sig=TOOLONG,data=${path('body')}`, /'sig' expects at most 4 characters/],
    [`rev=256,data=${path('body')}`, /'rev' expects a number from 0 to 255/],
    [`signature=x,data=${path('body')}`, /Invalid parameter 'signature'/],
  ] as const) {
    t.regex(refusal('-acpitable', value), message, value)
  }
})

test('a program is told what is wrong with its tables', (t) => {
  const table = configOf('-acpitable', `data=${path('body')}`).acpiTables![0]!
  const check = (acpiTables: Uint8Array[]): void => checkConfig({ memory: 64 << 20, acpiTables })
  const changed = (at: number): Uint8Array => table.map((byte, i) => (i === at ? byte ^ 1 : byte))
  t.throws(() => check([table, changed(40)]), {
    code: 'E_CONFIG',
    message: /1 has a wrong checksum/,
  })
  t.throws(() => check([changed(4)]), { code: 'E_CONFIG', message: /its header says/ })
  t.throws(() => check([table.subarray(0, 20)]), { code: 'E_CONFIG', message: /has 20 bytes/ })
})
