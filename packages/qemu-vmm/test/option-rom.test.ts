// Option ROMs of devices: where they come from, what guests see of them, and what the BIOS gets as files.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'

import { patchRomIds } from '../src/chipset/pci/rom.ts'
import { loadOptionRom } from '../src/devices/option-rom.ts'
import type { RomContext } from '../src/devices/option-rom.ts'
import type { DeviceOption } from '../src/devices/device-type.ts'
import type { Bus } from '../src/machine/bus.ts'
import { parseUserOptions } from '../src/net/user/options.ts'
import { plugBoard } from './support/plug-board.ts'
import type { PlugBoard } from './support/plug-board.ts'
import { hasPeer, startPeer } from './support/qtest.ts'

const compare = hasPeer ? test : test.skip
const folder = mkdtempSync(join(tmpdir(), 'option-rom-'))
test.after.always(() => rmSync(folder, { recursive: true }))

const PCIR_AT = 0x1c
const [ROM_REGISTER, ROM_BASE] = [0x30, 0xfea0_0000]
const cards = [
  ['virtio-net-pci', 'efi-virtio.rom', 0x1af4_1041],
  ['e1000', 'efi-e1000.rom', 0x8086_100e],
  ['rtl8139', 'efi-rtl8139.rom', 0x10ec_8139],
] as const

/** An image of `size` bytes whose sum is zero, for a card with these ids. */
function romImage(size: number, ids: number): Uint8Array<ArrayBuffer> {
  const rom = Uint8Array.from({ length: size }, (_, i) => (i * 7) & 0xff)
  const view = new DataView(rom.buffer)
  rom.set([0x55, 0xaa, size / 512, 0xcb])
  view.setUint16(0x18, PCIR_AT, true)
  rom.set(Buffer.from('PCIR'), PCIR_AT)
  view.setUint16(PCIR_AT + 4, ids >>> 16, true)
  view.setUint16(PCIR_AT + 6, ids & 0xffff, true)
  rom[6] = 0
  rom[6] = -sum(rom) & 0xff
  return rom
}

function sum(bytes: Uint8Array): number {
  return bytes.reduce((a, b) => a + b, 0) & 0xff
}

/** A folder with the ROMs of all cards, each of a length of its own. */
function romFolder(name: string): string {
  const roms = join(folder, name)
  mkdirSync(roms)
  for (const [i, [, file, ids]] of cards.entries()) {
    writeFileSync(join(roms, file), romImage(1024 * (i + 3), ids))
  }
  return roms
}

function card(driver: string, properties: Record<string, string> = {}): DeviceOption {
  return { driver, id: 'card', properties: { netdev: 'n', addr: '5', ...properties } }
}

async function board(option: DeviceOption, folders: string[]): Promise<PlugBoard> {
  return await plugBoard('i440fx', [option], [parseUserOptions('n', [])], {
    firmwareFolders: folders,
  })
}

/** Reads and writes registers of the card in slot 5. */
function configOf({ pio }: Bus): {
  get(register: number): number
  set(register: number, value: number): void
} {
  const select = (register: number): void => pio.write(0xcf8, 4, 0x8000_2800 | register)
  return {
    get(register) {
      select(register)
      return pio.read(0xcfc, 4)
    },
    set(register, value) {
      select(register)
      pio.write(0xcfc, 4, value)
    },
  }
}

/** The size that a card's ROM register tells, and what it shows. */
function romOf({ bus }: { bus: Bus }): { size: number; bytes: Uint8Array } {
  const { get, set } = configOf(bus)
  set(ROM_REGISTER, 0xffff_fffe)
  const size = -(get(ROM_REGISTER) & ~0x7ff) >>> 0
  set(ROM_REGISTER, ROM_BASE | 1)
  set(4, get(4) | 2)
  const bytes = new Uint8Array(size)
  for (let at = 0; at < size; at++) bytes[at] = bus.mmio.read(ROM_BASE + at, 1)
  return { size, bytes }
}

/** Files of fw_cfg whose names begin so. */
function files({ board: { bus } }: PlugBoard, prefix: string): Map<string, Buffer> {
  const read = (selector: number, length: number): Buffer => {
    bus.pio.write(0x510, 2, selector)
    return Buffer.from(Array.from({ length }, () => bus.pio.read(0x511, 1)))
  }
  const count = read(0x19, 4).readUInt32BE()
  const directory = read(0x19, 4 + 64 * count)
  const found = new Map<string, Buffer>()
  for (let at = 4; at < directory.length; at += 64) {
    const name = directory.toString('latin1', at + 8, directory.indexOf(0, at + 8))
    if (!name.startsWith(prefix)) continue
    found.set(name, read(directory.readUInt16BE(at + 4), directory.readUInt32BE(at)))
  }
  return found
}

test('a ROM takes the ids of a card, and its sum stays zero', (t) => {
  const rom = romImage(1024, 0x1af4_1041)
  patchRomIds(rom, 0x1af4, 0x1000)
  t.is(sum(rom), 0)
  t.is(new DataView(rom.buffer).getUint32(PCIR_AT + 4, true), 0x1000_1af4)
  for (const change of [
    (bytes: Uint8Array) => (bytes[0] = 0),
    (bytes: Uint8Array) => (bytes[PCIR_AT] = 0),
    // Behind the end.
    (bytes: Uint8Array) => bytes.set([0xfe, 0x03], 0x18),
  ]) {
    const other = romImage(1024, 0x1af4_1041)
    change(other)
    const before = other.slice()
    patchRomIds(other, 1, 2)
    t.deepEqual(other, before)
  }
  const short = Uint8Array.of(0x55, 0xaa)
  patchRomIds(short, 1, 2)
  t.deepEqual([...short], [0x55, 0xaa])
})

test('a card that is given no ROM has its own, with its ids, from the folder of -L', async (t) => {
  const roms = romFolder('own')
  for (const [i, [driver, file, ids]] of cards.entries()) {
    const fixture = await board(card(driver), [roms])
    t.deepEqual(fixture.said, [])
    const { size, bytes } = romOf(fixture.board)
    t.is(size, 4096 * (i < 2 ? 1 : 2), file)
    const expected = new Uint8Array(size).fill(0xff)
    const image = romImage(1024 * (i + 3), ids)
    if (driver === 'virtio-net-pci') patchRomIds(image, 0x1af4, 0x1000)
    expected.set(image)
    t.deepEqual(bytes, expected)
  }
})

test('a named ROM is taken as it is, an empty name is none, and what is not there is told', async (t) => {
  const roms = romFolder('named')
  const named = romOf(
    (await board(card('virtio-net-pci', { romfile: 'efi-virtio.rom' }), [roms])).board,
  )
  t.deepEqual(named.bytes.subarray(0, 3072), romImage(3072, 0x1af4_1041))
  t.is(romOf((await board(card('e1000', { romfile: '' }), [roms])).board).size, 0)
  await t.throwsAsync(board(card('e1000', { romfile: '/nowhere.rom' }), []), {
    code: 'E_FILE',
    message: /failed to find romfile "\/nowhere.rom"/,
  })
  await t.throwsAsync(board(card('e1000', { rombar: '2' }), [roms]), { code: 'E_DEVICE_OPTION' })
})

test('a ROM of its own that is not installed is missed by firmware only', (t) => {
  const own = { name: 'efi-nowhere.rom', what: 'network boot ROM', package: 'ipxe-qemu' }
  const said: string[] = []
  const context = (runsFirmware: boolean): RomContext => ({
    firmwareFolders: [folder],
    runsFirmware,
    optionRoms: [],
    isHotplugged: false,
    log: (message) => void said.push(message),
  })
  t.is(loadOptionRom(context(false), card('e1000'), own), undefined)
  t.deepEqual(said, [])
  t.is(loadOptionRom(context(true), card('e1000'), own), undefined)
  t.regex(said.join(), /network boot ROM 'efi-nowhere.rom'.*apt-get install ipxe-qemu/)
  t.is(loadOptionRom(context(true), card('e1000', { romfile: '' }), own), undefined)
  t.is(said.length, 1)
})

test('without rombar the BIOS gets a file, once for the same ROM', async (t) => {
  const roms = romFolder('files')
  const other = romFolder('others')
  writeFileSync(join(other, 'efi-virtio.rom'), romImage(2048, 0x1af4_1041))
  const off = { rombar: '0', addr: '6', netdev: 'm' }
  const second = (properties: Record<string, string>): DeviceOption => ({
    driver: 'virtio-net-pci',
    properties: { ...off, ...properties },
  })
  const start = async (more: Record<string, string>): Promise<PlugBoard> =>
    await plugBoard(
      'i440fx',
      [card('virtio-net-pci', { rombar: 'off' }), second(more)],
      [parseUserOptions('n', []), parseUserOptions('m', [])],
      { firmwareFolders: [roms] },
    )
  const fixture = await start({})
  t.is(romOf(fixture.board).size, 0)
  const found = files(fixture, 'genroms/')
  t.deepEqual([...found.keys()], ['genroms/efi-virtio.rom'])
  t.deepEqual(Uint8Array.from([...found.values()][0]!), romImage(3072, 0x1af4_1041))
  await t.throwsAsync(start({ romfile: join(other, 'efi-virtio.rom') }), {
    code: 'E_DEVICE_OPTION',
    message: /genroms\/efi-virtio.rom, too; rename one/,
  })
  const plugged = await plugBoard('i440fx', [], [parseUserOptions('n', [])], {
    firmwareFolders: [roms],
  })
  await t.throwsAsync(plugged.tree.add(card('virtio-net-pci', { rombar: '0' })), {
    code: 'E_DEVICE_OPTION',
    message: /Hot-plugged device without ROM bar can't have an option ROM/,
  })
})

compare('the ROMs of cards, and who gets the ids of its card, are as in QEMU', async (t) => {
  const roms = romFolder('compared')
  for (const [driver, file] of cards) {
    for (const properties of [{}, { romfile: file }, { rombar: '0' }] as Record<string, string>[]) {
      const option = card(driver, properties)
      const ours = romOf((await board(option, [roms])).board)
      const words = Object.entries(option.properties).map(([key, value]) => `,${key}=${value}`)
      const device = `${driver}${words.join('')}`
      const peer = startPeer('-L', roms, '-netdev', 'user,id=n', '-device', device)
      try {
        const set = async (register: number, value: number): Promise<void> => {
          await peer.ask(`outl 0xcf8 ${0x8000_2800 + register}`)
          await peer.ask(`outl 0xcfc ${value}`)
        }
        await set(ROM_REGISTER, 0xffff_fffe)
        const answer = Number(await peer.ask('inl 0xcfc'))
        const size = -(answer & ~0x7ff) >>> 0
        t.is(ours.size, size, device)
        if (size === 0) continue
        await set(ROM_REGISTER, ROM_BASE + 1)
        await set(4, 2)
        const hex = await peer.ask(`read ${ROM_BASE} ${size}`)
        const image = Buffer.from(hex.slice(2), 'hex')
        // Behind the image QEMU has zeros in place of an erased chip.
        const length = ours.bytes[2]! * 512
        t.true(image.subarray(0, length).equals(ours.bytes.subarray(0, length)), device)
      } finally {
        peer.close()
      }
    }
  }
})
