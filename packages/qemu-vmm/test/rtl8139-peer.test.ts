// The rtl8139 against QEMU's: the same accesses, the same values, the same frames.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import { CardPair } from './support/card-pair.ts'
import { frameOf } from './support/e1000-driver.ts'
import { haltingFirmware, hasPeer } from './support/qtest.ts'
import { words } from './support/random.ts'
import {
  BASE,
  END_OF_RING,
  ENTRIES,
  FIRST,
  LARGE_SEND,
  LAST,
  OWN,
  PORTS,
  RX_BUFFERS,
  RX_RING,
  Rtl8139Driver,
  TX_DATA,
  TX_RING,
} from './support/rtl8139-driver.ts'

const compare = hasPeer ? test.serial : test.serial.skip
const firmware = join(mkdtempSync(join(tmpdir(), 'rtl8139-')), 'firmware')
haltingFirmware(firmware)
test.after.always(() => rmSync(dirname(firmware), { recursive: true }))

type Pair = CardPair<Rtl8139Driver>

const start = (): Promise<Pair> =>
  CardPair.start(new Rtl8139Driver(), 'rtl8139', BASE, firmware, [
    [0x10, PORTS],
    [0x14, BASE],
    [4, 7],
  ])

/** Registers as drivers read them: offset, bytes, and what is written at random. */
const REGISTERS: readonly (readonly [number, 1 | 2 | 4, number])[] = [
  [0x00, 4, -1],
  [0x08, 4, -1],
  [0x0c, 4, -1],
  [0x20, 4, -1],
  [0x24, 4, -1],
  [0x30, 4, -1],
  [0x38, 2, 0],
  [0x3a, 2, 0],
  [0x3c, 2, -1],
  [0x3e, 2, -1],
  [0x40, 4, -1],
  [0x4c, 4, 0],
  [0x51, 1, -1],
  [0x52, 1, -1],
  [0x58, 1, 0],
  [0x59, 1, -1],
  // A reset leaves it in QEMU, and no other register of the configuration.
  [0x5a, 1, 0],
  [0x5e, 1, 0],
  [0x60, 2, 0],
  [0x62, 2, 0],
  [0x64, 2, 0],
  [0x66, 2, 0],
  [0x68, 2, 0],
  [0x6a, 2, 0],
  [0x74, 2, 0],
  [0xd8, 1, -1],
  [0xe0, 2, -1],
  [0xe4, 4, -1],
  [0xe8, 4, -1],
  [0xec, 1, -1],
]

compare('registers hold what QEMU has, after power-on and any writes', async (t) => {
  const pair = await start()
  t.teardown(() => pair.close())
  const check = async (what: string): Promise<void> => {
    for (const [register, size] of REGISTERS) {
      const [ours, theirs] = await pair.get(register, size)
      if (ours !== theirs) t.is(ours, theirs, `0x${register.toString(16)} ${what}`)
    }
  }
  await check('after power-on')
  const random = words(0x8139)
  for (let i = 0; i < 400 && t.passed; i++) {
    await pair.set(0x50, random() % 2 === 0 ? 0xc0 : 0, 1)
    for (const [register, size, mask] of REGISTERS) {
      if (mask !== 0 && random() % 2 === 0) {
        await pair.set(register, (random() & (2 ** (8 * size) - 1)) >>> 0, size)
      }
    }
    await check(`after round ${i}`)
    if (random() % 16 === 0) await pair.set(0x37, 0x10, 1)
  }
  t.pass()
})

/** A packet of TCP or UDP over IPv4, with as much payload. */
function packet(random: () => number, payload: number): Uint8Array {
  const isTcp = random() % 2 === 0
  const frame = Uint8Array.from({ length: 54 + payload }, () => random())
  frame.set([0x08, 0x00, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, isTcp ? 6 : 17, 0, 0], 12)
  new DataView(frame.buffer).setUint16(16, 40 + payload)
  frame[46] = 0x50
  frame[47] = 0x10
  // Lengths of UDP that are true.
  if (!isTcp) new DataView(frame.buffer).setUint16(38, 20 + payload)
  return frame
}

compare('the same descriptors of C+ mode make the same frames', async (t) => {
  const pair = await start()
  t.teardown(() => pair.close())
  for (const [register, size, value] of [
    [0x37, 1, 0x10],
    [0xe0, 2, 0x2b],
    [0x20, 4, TX_RING],
    [0x24, 4, 0],
    [0x37, 1, 0x04],
  ] as const) {
    await pair.set(register, value, size)
  }
  const random = words(0xc)
  for (let i = 0; i < 50; i++) {
    // Not those of the loop.
    await pair.set(0x40, (random() & ~0x0006_0000) >>> 0)
    t.deepEqual(...(await pair.get(0x40)))
  }
  await pair.set(0x40, 0)
  let tail = 0
  for (let i = 0; i < 200 && t.passed; i++) {
    const isLarge = random() % 3 === 0
    const frame = packet(random, 20 + (random() % (isLarge ? 3000 : 1400)))
    if (isLarge) frame[23] = 6
    await pair.poke(TX_DATA, frame)
    const cut = 20 + (random() % 20)
    const sums = isLarge ? LARGE_SEND | ((200 + (random() % 1000)) << 16) : (random() & 7) << 16
    const tag = random() % 3 === 0 ? 0x0002_0000 | (random() & 0xffff) : 0
    for (const [flags, at, bytes] of [
      [FIRST, TX_DATA, cut],
      [LAST, TX_DATA + cut, frame.length - cut],
    ] as const) {
      const end = tail === ENTRIES - 1 ? END_OF_RING : 0
      const view = new DataView(new ArrayBuffer(16))
      view.setUint32(0, (OWN | end | flags | sums | bytes) >>> 0, true)
      view.setUint32(4, tag, true)
      view.setUint32(8, at, true)
      await pair.poke(TX_RING + 16 * tail, new Uint8Array(view.buffer))
      tail = (tail + 1) % ENTRIES
    }
    await pair.set(0xd9, 0x40, 1)
    const [ours, theirs] = await pair.frames()
    t.deepEqual(ours, theirs, `packet ${i}`)
    t.deepEqual(...(await pair.get(0x3e, 2)))
    for (let entry = 0; entry < ENTRIES; entry++) {
      const at = TX_RING + 16 * entry
      t.deepEqual(...(await pair.peek(at, 16)))
    }
  }
})

compare('the same frames come into the same places, in both modes', async (t) => {
  const random = words(0x39)
  for (const cplus of [0, 0x2b, 0x6b]) {
    const pair = await start()
    t.teardown(() => pair.close())
    await pair.set(0x37, 0x10, 1)
    if (cplus !== 0) await pair.set(0xe0, cplus, 2)
    await pair.set(0xe4, RX_RING)
    await pair.set(0x30, RX_BUFFERS)
    for (let i = 0; i < ENTRIES; i++) {
      const view = new DataView(new ArrayBuffer(16))
      view.setUint32(0, (OWN | (i === ENTRIES - 1 ? END_OF_RING : 0) | 2048) >>> 0, true)
      view.setUint32(8, RX_BUFFERS + 2048 * i, true)
      await pair.poke(RX_RING + 16 * i, new Uint8Array(view.buffer))
    }
    await pair.set(8, random())
    await pair.set(12, random())
    await pair.set(0x44, 0x0e)
    await pair.set(0x37, 0x0c, 1)
    await pair.set(0x44, 0x0e)
    for (let i = 0; i < 15 && t.passed; i++) {
      const group = Uint8Array.of(1, 0, 0x5e, random(), random(), random())
      const to = [undefined, new Uint8Array(6).fill(0xff), group][random() % 3]
      // Of shorter ones QEMU's sum is without what they are filled up with.
      const bytes = 60 + (random() % (cplus === 0 ? 400 : 1400))
      pair.send(frameOf(bytes, to, random() % 3 === 0 ? 0x8100 : 0x0800))
      await setTimeout(15)
      t.deepEqual(...(await pair.peek(RX_RING, 16 * ENTRIES)))
      t.deepEqual(...(await pair.get(0x3a, 2)))
      t.deepEqual(...(await pair.get(0x3e, 2)))
    }
    const [ours, theirs] = await pair.peek(RX_BUFFERS, 0x8000)
    const at = [...ours].findIndex((letter, i) => letter !== theirs[i])
    t.is(
      at,
      -1,
      `${cplus} ${at / 2 - 1}: ${ours.slice(at - 40, at + 40)} ${theirs.slice(at - 40, at + 40)}`,
    )
  }
})
