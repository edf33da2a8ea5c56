import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'

import test from 'ava'

import { comPort } from '../src/machine/acpi/isa-devices.ts'
import { createDsdt } from '../src/machine/acpi/dsdt.ts'
import type { AcpiHotplugBridge, AcpiHotplugTree } from '../src/chipset/pci/acpi-hotplug.ts'
import { ICH9_PM, PIIX4_PM } from '../src/chipset/acpi-pm.ts'
import * as aml from '../src/machine/acpi/aml.ts'
import { dsdt, fadt, madt, mcfg } from '../src/machine/acpi/tables.ts'
import type { VmmError } from '../src/errors.ts'
import { checkConfig } from '../src/machine/config-check.ts'
import { createFirmwareTables } from '../src/machine/firmware-tables.ts'
import { resolveTopology } from '../src/machine/topology.ts'
import { E820_RAM, createMemoryMap } from '../src/machine/memory-map.ts'
import { scratchFolder, writeImage } from './support/images.ts'

const MIB = 1 << 20
const GIB = 1024 * MIB
const DSDT_CONFIG = {
  board: 'i440fx',
  pmKind: PIIX4_PM,
  pmPort: 0x600,
  gpe0Port: 0xafe0,
  topology: resolveTopology(1, 'pc'),
  pciHoleStart: 0x8000_0000,
  pciHole64: { start: 4 * GIB, end: 36 * GIB },
  isaDevices: [0, 1].map(comPort),
} as const
const PC_CONFIG = {
  ...DSDT_CONFIG,
  hotplug: { number: 0, slots: 0xffff_fff8, bridges: [] },
} as const
const Q35_CONFIG = {
  ...DSDT_CONFIG,
  board: 'q35',
  pmKind: ICH9_PM,
  gpe0Port: 0x620,
  configWindow: { base: 0xb000_0000, size: 256 * MIB },
} as const
const port = (
  slot: number,
  functionNumber: number,
  behind: AcpiHotplugTree,
): AcpiHotplugBridge => ({
  slot,
  functionNumber,
  behind,
})
/** Ports of which one is behind another. */
const PORTS_CONFIG = {
  ...Q35_CONFIG,
  hotplug: {
    slots: 0,
    bridges: [
      port(1, 0, { number: 2, slots: 1, bridges: [] }),
      port(1, 1, {
        number: 0,
        slots: 0,
        bridges: [port(0, 0, { number: 1, slots: 1, bridges: [] })],
      }),
    ],
  },
} as const
const THREE = resolveTopology({ cpus: 3, maxcpus: 4 }, 'pc')
const folder = scratchFolder()
test.after.always(() => rmSync(folder, { recursive: true }))

function checksum(bytes: Uint8Array): number {
  return bytes.reduce((sum, byte) => (sum + byte) & 0xff, 0)
}

test('memory map: one piece below 3.5 GiB, then 3 GiB and the rest above 4 GiB', (t) => {
  const small = createMemoryMap(512 * MIB)
  t.is(small.lowRamEnd, 512 * MIB)
  t.is(small.highRamBytes, 0)
  t.is(createMemoryMap(3584 * MIB - 4096).highRamBytes, 0)
  const large = createMemoryMap(3584 * MIB)
  t.is(large.lowRamEnd, 3 * GIB)
  t.is(large.highRamBytes, 512 * MIB)
  t.deepEqual(large.slots.at(-1), { gpa: 4 * GIB, offset: 3 * GIB, size: 512 * MIB })
  for (const map of [small, large]) {
    const ram = map.e820.filter((e) => e.type === E820_RAM).reduce((sum, e) => sum + e.size, 0)
    t.is(ram, map.memoryBytes - MIB + 0x9_fc00)
    for (const [i, entry] of map.e820.entries()) {
      const next = map.e820[i + 1]
      t.true(next === undefined || entry.addr + entry.size <= next.addr)
    }
  }
})

test('memory map: impossible sizes are refused with the limit', (t) => {
  for (const [bytes, message] of [
    [0, /too small/],
    [MIB, /too small.*2097152 bytes/],
    [-1, /too small/],
    [Number.NaN, /too small/],
    [1.5 * MIB + 0.5, /too small/],
    [16 * MIB + 1, /not a multiple of 4096/],
    [2 ** 50, /more than the/],
  ] as const) {
    const error = t.throws(() => createMemoryMap(bytes), { code: 'E_MEMORY_SIZE' })
    t.regex(error.message, message)
  }
})

test('aml: encodes integers, names and lengths as the specification says', (t) => {
  t.deepEqual(aml.int(0), [0])
  t.deepEqual(aml.int(0x1234), [0x0b, 0x34, 0x12])
  t.deepEqual(aml.int(0x1_0000_0000), [0x0e, 0, 0, 0, 0, 1, 0, 0, 0])
  t.is(String.fromCharCode(...aml.path('_HID')), '_HID')
  t.is(String.fromCharCode(...aml.path('\\_SB.PCI0')), '\\._SB_PCI0')
  t.deepEqual(aml.path('A.B.C').slice(0, 3), [0x2f, 3, 0x41])
  t.throws(() => aml.path('toolong'))
  t.deepEqual(aml.eisaId('PNP0A03'), [0x0c, 0x41, 0xd0, 0x0a, 0x03])
  t.deepEqual(
    aml.buffer(Array.from({ length: 100 }, () => 0)).slice(0, 5),
    [0x11, 0x48, 0x06, 0x0a, 100],
  )
})

for (const [board, signatures] of [
  [PC_CONFIG, ['FACP', 'APIC']],
  [Q35_CONFIG, ['FACP', 'APIC', 'MCFG']],
] as const)
  test(`acpi: every table of ${board.board} adds up, and the roots lead to all of them`, (t) => {
    const config = {
      ...board,
      machine: 'pc-i440fx-7.2',
      product: 'Standard PC',
      uuid: '00112233-4455-6677-8899-aabbccddeeff',
      memoryBytes: 512 * MIB,
    }
    const { bytes, gpa, rsdpGpa } = createFirmwareTables(config)
    const at = (address: number, length: number): Uint8Array =>
      bytes.subarray(address - gpa, address - gpa + length)
    const view = new DataView(bytes.buffer, bytes.byteOffset)
    const u32 = (address: number): number => view.getUint32(address - gpa, true)
    const table = (address: number): Uint8Array => at(address, u32(address + 4))
    const name = (address: number): string => Buffer.from(at(address, 4)).toString()

    t.is(rsdpGpa % 16, 0)
    t.is(Buffer.from(at(rsdpGpa, 8)).toString(), 'RSD PTR ')
    t.is(checksum(at(rsdpGpa, 20)), 0)
    t.is(checksum(at(rsdpGpa, 36)), 0)
    const rsdt = u32(rsdpGpa + 16)
    const xsdt = u32(rsdpGpa + 24)
    t.is(name(rsdt), 'RSDT')
    t.is(name(xsdt), 'XSDT')
    const pointed = signatures.map((_, i) => u32(rsdt + 36 + 4 * i))
    t.deepEqual(
      pointed,
      signatures.map((_, i) => u32(xsdt + 36 + 8 * i)),
    )
    t.deepEqual(pointed.map(name), [...signatures])
    const fadtGpa = pointed[0]!
    const dsdtGpa = u32(fadtGpa + 40)
    t.is(name(dsdtGpa), 'DSDT')
    t.is(name(u32(fadtGpa + 36)), 'FACS')
    t.is(u32(fadtGpa + 36) % 64, 0)
    for (const address of [rsdt, xsdt, ...pointed, dsdtGpa]) {
      t.is(checksum(table(address)), 0, name(address))
      t.is(Buffer.from(at(address + 10, 6)).toString(), 'BOCHS ')
      t.is(Buffer.from(at(address + 16, 8)).toString(), 'BXPC    ')
    }

    t.is(Buffer.from(at(gpa, 4)).toString(), '_SM_')
    t.is(checksum(at(gpa, 31)), 0)
    t.is(checksum(at(gpa + 16, 15)), 0)
    const smbios = at(u32(gpa + 24), view.getUint16(22, true))
    const structures: { type: number; at: number; strings: string[] }[] = []
    for (let next = 0; next < smbios.length;) {
      const type = smbios[next]!
      const stringsAt = next + smbios[next + 1]!
      const end = Buffer.from(smbios).indexOf('\0\0', stringsAt)
      const strings = Buffer.from(smbios.subarray(stringsAt, end)).toString().split('\0')
      structures.push({ type, at: next, strings })
      next = end + 2
    }
    t.is(structures.at(-1)!.type, 127)
    t.is(structures.length, view.getUint16(28, true))
    const system = structures.find((s) => s.type === 1)!
    t.deepEqual(system.strings.slice(0, 2), ['QEMU', 'Standard PC'])
    t.is(
      Buffer.from(smbios.subarray(system.at + 8, system.at + 24)).toString('hex'),
      '33221100554477668899aabbccddeeff',
    )
  })

const hasIasl = spawnSync('iasl', ['-v']).error === undefined

if (hasIasl)
  test('acpi: iasl disassembles and compiles the tables without a remark', (t) => {
    for (const [file, bytes] of [
      [
        'dsdt',
        dsdt(createDsdt({ ...PC_CONFIG, topology: THREE, isaDevices: [0, 1, 2, 3].map(comPort) })),
      ],
      [
        'dsdt-q35',
        dsdt(createDsdt({ ...Q35_CONFIG, topology: THREE, isaDevices: [0, 1].map(comPort) })),
      ],
      [
        'dsdt-ports',
        dsdt(createDsdt({ ...PORTS_CONFIG, topology: THREE, isaDevices: [0, 1].map(comPort) })),
      ],
      ['facp', fadt(0xf_0040, 0xf_0100, DSDT_CONFIG)],
      ['facp-q35', fadt(0xf_0040, 0xf_0100, Q35_CONFIG)],
      ['mcfg', mcfg(Q35_CONFIG.configWindow)],
      ['apic', madt({ topology: THREE })],
    ] as const) {
      const path = writeImage(folder, `${file}.aml`, bytes)
      const dump = spawnSync('iasl', ['-d', path], { encoding: 'utf8' })
      t.is(dump.status, 0, dump.stderr)
      t.notRegex(dump.stdout + dump.stderr, /warning|invalid|incorrect/i)
      const text = readFileSync(join(folder, `${file}.dsl`), 'utf8')
      t.notRegex(text, /Unknown|Invalid|Error/i)
      if (!file.startsWith('dsdt')) continue
      const again = spawnSync('iasl', [join(folder, `${file}.dsl`)], { encoding: 'utf8' })
      t.regex(again.stdout, / 0 Errors, 0 Warnings, 0 Remarks/)
    }
  })

test('configuration: each mistake is named, with the nearest valid word', (t) => {
  const base = { memory: 64 * MIB, kernel: '/boot/vmlinuz' }
  const refuse = (change: object, message: RegExp, code = 'E_CONFIG'): void => {
    const error = t.throws<VmmError>(() => checkConfig({ ...base, ...change }))
    t.is(String(error.code), code)
    t.regex(error.message, message)
  }
  t.notThrows(() => checkConfig(base))
  refuse({ kernl: 'x' }, /'kernl'; did you mean 'kernel'/)
  refuse({ memory: 0 }, /too small/, 'E_MEMORY_SIZE')
  refuse({ memory: 1023 * GIB }, /more than this host has/, 'E_MEMORY_SIZE')
  refuse({ accel: 'hax' }, /auto, kvm, tcg/)
  refuse({ host: 'thread' }, /inline, worker/)
  refuse({ machine: { type: 'pcc' } }, /did you mean 'pc'/)
  refuse({ machine: { type: 'pc', options: { pif: true } } }, /no option 'pif'/)
  refuse({ uuid: 'abc' }, /not a UUID/)
  refuse({ serial: [undefined, undefined, undefined, undefined, undefined] }, /a PC has 4/)
  refuse({ kernel: undefined, initrd: 'x' }, /initrd needs a kernel/)
  refuse({ boot: { order: 'e' } }, /Invalid boot device 'e'/)
  refuse({ boot: { splashTime: 1.5 } }, /splash-time is invalid/)
  refuse({ host: 'worker', devices: [{ name: 'dice', create() {} }] }, /dice is an object/)
})
