// What devices say with `-d unimp` when a guest asks for what they do not have.
import test from 'ava'

import type { DeviceOption } from '../src/devices/device-type.ts'
import { parseUserOptions } from '../src/net/user/options.ts'
import { plugBoard } from './support/plug-board.ts'
import type { PlugBoard } from './support/plug-board.ts'

const DISK = 0x1f0
const CD = 0x170
const HPET = 0xfed0_0000
const CARD = 0xfea0_0000

const plug: readonly DeviceOption[] = [
  { driver: 'ide-hd', id: 'disk', properties: { drive: 'd0', bus: 'ide.0', unit: '0' } },
  { driver: 'ide-cd', id: 'cd', properties: { bus: 'ide.1', unit: '0' } },
  { driver: 'e1000', id: 'card', properties: { netdev: 'n', addr: '5', romfile: '' } },
  { driver: 'rtl8139', id: 'old', properties: { netdev: 'o', addr: '6', romfile: '' } },
  { driver: 'ich9-ahci', id: 'sata', properties: { addr: '7' } },
  { driver: 'VGA', id: 'vga', properties: { addr: '8', romfile: '' } },
]

async function board(logItems: readonly ('guest_errors' | 'unimp')[]): Promise<PlugBoard> {
  return await plugBoard('i440fx', plug, [parseUserOptions('n', []), parseUserOptions('o', [])], {
    logItems,
  })
}

/** Puts a memory BAR of a function in its place. */
function place({ board: { bus } }: PlugBoard, slot: number, bar: number, at: number): void {
  const function0 = 0x8000_0000 + slot * 0x800
  bus.pio.write(0xcf8, 4, function0 + 0x10 + 4 * bar)
  bus.pio.write(0xcfc, 4, at)
  bus.pio.write(0xcf8, 4, function0 + 4)
  bus.pio.write(0xcfc, 2, 2)
}

/** Writes a register of the VGA that is reached by an index. */
function writeIndexed({ board: { bus } }: PlugBoard, port: number, index: number): void {
  bus.pio.write(0x3c2, 1, 1)
  bus.pio.write(port, 1, index)
  bus.pio.write(port + 1, 1, 1)
}

/** Guests' questions, and what is said of them. */
const questions: readonly (readonly [string, (board: PlugBoard) => void, RegExp])[] = [
  [
    'a command of disks',
    ({ board: { bus } }) => bus.pio.write(DISK + 7, 1, 0xf1),
    /^unimp: disk: ATA command 0xf1 is not implemented$/,
  ],
  [
    'a feature of disks',
    ({ board: { bus } }) => {
      bus.pio.write(DISK + 1, 1, 0x77)
      bus.pio.write(DISK + 7, 1, 0xef)
    },
    /^unimp: disk: SET FEATURES 0x77 is not implemented$/,
  ],
  [
    'a function of SMART',
    ({ board: { bus } }) => {
      bus.pio.write(DISK + 1, 1, 0xdd)
      bus.pio.write(DISK + 4, 1, 0x4f)
      bus.pio.write(DISK + 5, 1, 0xc2)
      bus.pio.write(DISK + 7, 1, 0xb0)
    },
    /^unimp: disk: SMART function 0xdd is not implemented$/,
  ],
  [
    'a command of CD drives',
    ({ board: { bus } }) => bus.pio.write(CD + 7, 1, 0xc8),
    /^unimp: cd: ATA command 0xc8 is not implemented$/,
  ],
  [
    'a packet of CD drives',
    ({ board: { bus } }) => {
      bus.pio.write(CD + 7, 1, 0xa0)
      for (const word of [0x00a7, 0, 0, 0, 0, 0]) bus.pio.write(CD, 2, word)
    },
    /^unimp: cd: packet command 0xa7 is not implemented$/,
  ],
  [
    'a command of floppy controllers',
    ({ board: { bus } }) => bus.pio.write(0x3f5, 1, 0x1e),
    /^unimp: isa-fdc: command 0x1e is not implemented$/,
  ],
  [
    'a command of keyboard controllers',
    ({ board: { bus } }) => bus.pio.write(0x64, 1, 0xb5),
    /^unimp: i8042: controller command 0xb5 is not implemented$/,
  ],
  [
    'a command of keyboards',
    ({ board: { bus } }) => bus.pio.write(0x60, 1, 0xf1),
    /^unimp: i8042: keyboard command 0xf1 is not implemented$/,
  ],
  [
    'a command of mice',
    ({ board: { bus } }) => {
      bus.pio.write(0x64, 1, 0xd4)
      bus.pio.write(0x60, 1, 0xe1)
    },
    /^unimp: i8042: mouse command 0xe1 is not implemented$/,
  ],
  [
    'a register of the HPET',
    ({ board: { bus } }) => void bus.mmio.read(HPET + 0x40, 4),
    /^unimp: hpet: read of register 0x40 is not implemented$/,
  ],
  [
    'a device on the SMBus',
    ({ board: { bus } }) => {
      // Where firmware puts it.
      bus.pio.write(0xcf8, 4, 0x8000_0b90)
      bus.pio.write(0xcfc, 4, 0x701)
      bus.pio.write(0xcf8, 4, 0x8000_0bd0)
      bus.pio.write(0xcfe, 1, 9)
      bus.pio.write(0x704, 1, 0xa1)
      bus.pio.write(0x702, 1, 0x48)
    },
    /^unimp: smbus: device 0x50 is not implemented$/,
  ],
  [
    'a register of the card',
    (fixture) => {
      place(fixture, 5, 0, CARD)
      fixture.board.bus.mmio.write(CARD + 0x5b60, 4, 1)
    },
    /^unimp: card: write of register 0x5b60 is not implemented$/,
  ],
  [
    'a register of the older card',
    (fixture) => {
      place(fixture, 6, 1, CARD)
      fixture.board.bus.mmio.write(CARD + 0x7c, 4, 1)
    },
    /^unimp: old: write of register 0x7c is not implemented$/,
  ],
  [
    'a register of the SATA controller',
    (fixture) => {
      place(fixture, 7, 5, CARD)
      fixture.board.bus.mmio.write(CARD + 0x28, 4, 1)
    },
    /^unimp: sata: write of register 0x28 is not implemented$/,
  ],
  [
    'a register of a SATA port',
    (fixture) => {
      place(fixture, 7, 5, CARD)
      void fixture.board.bus.mmio.read(CARD + 0x1c0, 4)
    },
    /^unimp: sata: read of register 0x1c0 is not implemented$/,
  ],
  [
    'a sequencer register of the VGA',
    (fixture) => writeIndexed(fixture, 0x3c4, 6),
    /^unimp: vga: write of sequencer register 0x6 is not implemented$/,
  ],
  [
    'a graphics register of the VGA',
    (fixture) => writeIndexed(fixture, 0x3ce, 9),
    /^unimp: vga: write of graphics register 0x9 is not implemented$/,
  ],
  [
    'a CRTC register of the VGA',
    (fixture) => writeIndexed(fixture, 0x3d4, 0x30),
    /^unimp: vga: write of CRTC register 0x30 is not implemented$/,
  ],
  [
    'an attribute register of the VGA',
    ({ board: { bus } }) => {
      bus.pio.write(0x3c2, 1, 1)
      bus.pio.read(0x3da, 1)
      bus.pio.write(0x3c0, 1, 0x16)
      bus.pio.write(0x3c0, 1, 1)
    },
    /^unimp: vga: write of attribute register 0x16 is not implemented$/,
  ],
]

for (const [what, ask, said] of questions) {
  test(`${what} that is not there is said, once, and only when asked for`, async (t) => {
    const loud = await board(['guest_errors', 'unimp'])
    ask(loud)
    t.is(loud.said.length, 1, loud.said.join())
    t.regex(loud.said[0]!, said)
    for (const items of [[], ['guest_errors']] as const) {
      const silent = await board(items)
      ask(silent)
      t.deepEqual(silent.said, [])
    }
  })
}

test('firmware and drivers that ask for what is there are not told of', async (t) => {
  const fixture = await board(['guest_errors', 'unimp'])
  const { pio, mmio } = fixture.board.bus
  for (const command of [0xec, 0xe7, 0x91]) pio.write(DISK + 7, 1, command)
  pio.write(CD + 7, 1, 0xa1)
  for (const command of [0xaa, 0xab, 0xae, 0xad, 0xfe]) pio.write(0x64, 1, command)
  pio.write(0x60, 1, 0xf4)
  pio.write(0x3f5, 1, 0x10)
  mmio.read(HPET, 4)
  mmio.read(HPET + 0x14, 4)
  place(fixture, 6, 1, CARD)
  for (const [at, bytes] of [
    [0, 4],
    [0x37, 1],
    [0x3e, 2],
    [0x44, 4],
    [0xe0, 2],
  ] as const) {
    mmio.read(CARD + at, bytes)
  }
  place(fixture, 7, 5, CARD + 0x1000)
  for (const at of [0, 4, 8, 0xc, 0x10, 0x118, 0x134, 0x3b8]) mmio.read(CARD + 0x1000 + at, 4)
  for (let index = 0; index < 5; index++) writeIndexed(fixture, 0x3c4, index)
  for (let index = 0; index < 9; index++) writeIndexed(fixture, 0x3ce, index)
  for (let index = 0; index < 0x19; index++) writeIndexed(fixture, 0x3d4, index)
  t.deepEqual(fixture.said, [])
})
