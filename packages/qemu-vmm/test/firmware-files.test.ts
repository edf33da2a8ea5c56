import { writeFileSync, rmSync } from 'node:fs'
import { ICH9_PM } from '../src/chipset/acpi-pm.ts'
import { join } from 'node:path'

import test from 'ava'

import { Rtc } from '../src/chipset/rtc.ts'
import { BootIndex } from '../src/machine/boot-index.ts'
import { bootFiles, setBootCmos } from '../src/machine/boot-options.ts'
import { ManualClock } from '../src/machine/clock.ts'
import { acpiFiles, firmwareFiles, rebuilt } from '../src/machine/firmware-files.ts'
import { FakeIrq } from './support/fakes.ts'
import { scratchFolder } from './support/images.ts'
import { tableFacts as config } from './support/table-facts.ts'

const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

interface Placed {
  address: number
  bytes: Uint8Array
  view: DataView
}

function sum(bytes: Uint8Array): number {
  return bytes.reduce((total, byte) => total + byte, 0) & 0xff
}

/** Runs the loader's program as firmware does: every file, and every byte, must be there. */
function load(files: ReadonlyMap<string, Uint8Array>): Map<string, Placed> {
  const program = files.get('etc/table-loader')!
  const placed = new Map<string, Placed>()
  const next = { 1: 0x1fff_0000, 2: 0xf_5000 }
  const name = (at: number): string =>
    Buffer.from(program.subarray(at, at + 56))
      .toString('latin1')
      .replace(/\0.*$/s, '')
  const find = (at: number): Placed => {
    const found = placed.get(name(at))
    if (found === undefined) throw new Error(`${name(at)} is used before it is loaded`)
    return found
  }
  for (let at = 0; at < program.length; at += 128) {
    const command = new DataView(program.buffer, program.byteOffset + at, 128)
    switch (command.getUint32(0, true)) {
      case 0:
        break
      case 1: {
        const bytes = Uint8Array.from(files.get(name(at + 4))!)
        const zone = command.getUint8(64) as 1 | 2
        const alignment = command.getUint32(60, true)
        const address = Math.ceil(next[zone] / alignment) * alignment
        next[zone] = address + bytes.length
        placed.set(name(at + 4), { address, bytes, view: new DataView(bytes.buffer) })
        break
      }
      case 2: {
        const { view } = find(at + 4)
        const offset = command.getUint32(116, true)
        const { address } = find(at + 60)
        const size = command.getUint8(120)
        if (size === 4) view.setUint32(offset, view.getUint32(offset, true) + address, true)
        else view.setBigUint64(offset, view.getBigUint64(offset, true) + BigInt(address), true)
        break
      }
      case 3: {
        const { bytes } = find(at + 4)
        const [offset, from, length] = [60, 64, 68].map((i) => command.getUint32(i, true)) as [
          number,
          number,
          number,
        ]
        if (from + length > bytes.length) throw new Error('a sum beyond the end')
        // UEFI firmware relies on it; others would not.
        if (bytes[offset] !== 0) throw new Error('a checksum that is not zero before')
        bytes[offset] = -sum(bytes.subarray(from, from + length))
        break
      }
      default:
        throw new Error(`command ${command.getUint32(0, true)}`)
    }
  }
  return placed
}

test('the loader makes tables that refer to each other', (t) => {
  const files = new Map(acpiFiles(config).map(({ name, data }) => [name, data]))
  t.is(files.get('etc/table-loader')!.length % 128, 0)
  const placed = load(files)
  const { bytes: root, view, address } = placed.get('etc/acpi/rsdp')!
  const tables = placed.get('etc/acpi/tables')!
  t.is(address % 16, 0)
  t.is(sum(root.subarray(0, 20)), 0)
  t.is(sum(root), 0)
  const table = (gpa: number): { signature: string; bytes: Uint8Array; view: DataView } => {
    const at = gpa - tables.address
    const length = tables.view.getUint32(at + 4, true)
    const bytes = tables.bytes.subarray(at, at + length)
    const signature = Buffer.from(bytes.subarray(0, 4)).toString()
    if (signature !== 'FACS') t.is(sum(bytes), 0, signature)
    return { signature, bytes, view: new DataView(bytes.buffer, bytes.byteOffset, length) }
  }
  const rsdt = table(view.getUint32(16, true))
  const xsdt = table(Number(view.getBigUint64(24, true)))
  t.is(rsdt.signature, 'RSDT')
  t.is(xsdt.signature, 'XSDT')
  const small = [0, 1].map((i) => rsdt.view.getUint32(36 + 4 * i, true))
  t.deepEqual(
    [0, 1].map((i) => Number(xsdt.view.getBigUint64(36 + 8 * i, true))),
    small,
  )
  const [fadt, madt] = small.map(table)
  t.is(fadt!.signature, 'FACP')
  t.is(madt!.signature, 'APIC')
  t.is(table(fadt!.view.getUint32(40, true)).signature, 'DSDT')
  t.is(fadt!.view.getUint32(40, true), Number(fadt!.view.getBigUint64(140, true)))
  const facs = fadt!.view.getUint32(36, true)
  t.is(table(facs).signature, 'FACS')
  t.is(facs % 64, 0)
})

test('tables are built again in the same lengths when firmware has moved configuration space', (t) => {
  const q35 = { ...config, board: 'q35', pmKind: ICH9_PM, gpe0Port: 0x620 } as const
  const window = (base: number): { configWindow: { base: number; size: number } } => ({
    configWindow: { base, size: 0x1000_0000 },
  })
  const first = acpiFiles({ ...q35, ...window(0xe000_0000) })
  for (const [now, hasTable] of [
    [q35, false],
    [{ ...q35, ...window(0xb000_0000) }, true],
    [{ ...q35, ...window(0xe000_0000) }, true],
  ] as const) {
    const files = rebuilt(first, acpiFiles(now))
    t.deepEqual(
      files.map(({ data }) => data.length),
      first.map(({ data }) => data.length),
    )
    const placed = load(new Map(files.map(({ name, data }) => [name, data])))
    const { bytes, address, view } = placed.get('etc/acpi/tables')!
    const root = placed.get('etc/acpi/rsdp')!.view.getUint32(16, true) - address
    const count = (view.getUint32(root + 4, true) - 36) / 4
    const names = Array.from({ length: count }, (_, i) => {
      const at = view.getUint32(root + 36 + 4 * i, true) - address
      return Buffer.from(bytes.subarray(at, at + 4)).toString()
    })
    t.deepEqual(names, hasTable ? ['FACP', 'APIC', 'MCFG'] : ['FACP', 'APIC'])
  }
})

test('guests may look for VGA where there is a display', (t) => {
  for (const hasDisplay of [false, true]) {
    const files = acpiFiles({ ...config, hasDisplay })
    const tables = files.find(({ name }) => name === 'etc/acpi/tables')!.data
    const at = Buffer.from(tables).indexOf('FACP')
    t.is((tables[at + 109]! & 4) === 0, hasDisplay)
  }
})

test('SMBIOS goes without a place, and without a description of the firmware', (t) => {
  const files = new Map(firmwareFiles(config).map(({ name, data }) => [name, data]))
  const anchor = files.get('etc/smbios/smbios-anchor')!
  const table = files.get('etc/smbios/smbios-tables')!
  const view = new DataView(anchor.buffer, anchor.byteOffset, anchor.length)
  t.is(anchor.length, 31)
  t.is(view.getUint16(22, true), table.length)
  t.is(view.getUint32(24, true), 0)
  t.is(table[0], 1, 'the first structure is that of the system')
})

test('the order of single devices', (t) => {
  const order = new BootIndex()
  t.is(order.file(false).length, 0)
  t.is(Buffer.from(order.file(true)).toString(), 'HALT\0')
  order.add(7, '/pci@i0cf8/scsi@4/disk@0,0')
  order.add(0, '/pci@i0cf8/scsi@3/disk@0,0')
  t.is(
    Buffer.from(order.file(false)).toString(),
    '/pci@i0cf8/scsi@3/disk@0,0\n/pci@i0cf8/scsi@4/disk@0,0\0',
  )
  t.throws(() => order.add(7, 'another'), {
    code: 'E_DEVICE_OPTION',
    message: /bootindex 7 has already been used, by \/pci@i0cf8\/scsi@4/,
  })
})

test('the order of kinds of devices is in CMOS', (t) => {
  const rtc = new Rtc(new FakeIrq(), new ManualClock())
  const read = (index: number): number => {
    rtc.write(0, 1, index)
    return rtc.read(1)
  }
  for (const [order, first, third] of [
    ['cad', 0x12, 0x30],
    ['d', 0x03, 0x00],
    ['nc', 0x24, 0x00],
  ] as const) {
    setBootCmos(rtc, order)
    t.deepEqual([read(0x3d), read(0x38)], [first, third], order)
  }
})

test('files of boot options', (t) => {
  const files = bootFiles({ splashTime: 500, rebootTimeout: 1000 })
  t.deepEqual(
    files.map(({ name, data }) => [name, ...data]),
    [
      ['etc/boot-fail-wait', 0xe8, 3, 0, 0],
      ['etc/boot-menu-wait', 0xf4, 1],
    ],
  )
  t.deepEqual([...bootFiles({})[0]!.data], [0xff, 0xff, 0xff, 0xff], 'never')
  const picture = (name: string, ...head: number[]): string => {
    const bytes = new Uint8Array(64)
    bytes.set(head)
    bytes[28] = 24
    writeFileSync(join(folder, name), bytes)
    return join(folder, name)
  }
  t.is(bootFiles({ splash: picture('a', 0xff, 0xd8) })[1]!.name, 'bootsplash.jpg')
  t.is(bootFiles({ splash: picture('b', 0x42, 0x4d) })[1]!.name, 'bootsplash.bmp')
  t.throws(() => bootFiles({ splash: picture('c', 0x89, 0x50) }), {
    code: 'E_CONFIG',
    message: /must be JPEG or 24 bit BMP/,
  })
  t.throws(() => bootFiles({ splash: join(folder, 'none') }), { code: 'E_FILE' })
})
