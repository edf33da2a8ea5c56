// The e1000e against QEMU's: the same accesses, the same values, the same frames.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import { CardPair } from './support/card-pair.ts'
import { BASE, frameOf } from './support/e1000-driver.ts'
import { E1000eDriver, FLASH, MSIX, PORTS, tcpFrame } from './support/e1000e-driver.ts'
import { haltingFirmware, hasPeer } from './support/qtest.ts'
import { words } from './support/random.ts'

const compare = hasPeer ? test.serial : test.serial.skip
const firmware = join(mkdtempSync(join(tmpdir(), 'e1000e-')), 'firmware')
haltingFirmware(firmware)
test.after.always(() => rmSync(dirname(firmware), { recursive: true }))

type Pair = CardPair<E1000eDriver>

const start = (): Promise<Pair> =>
  CardPair.start(new E1000eDriver(), 'e1000e', BASE, firmware, [
    [0x10, BASE],
    [0x14, FLASH],
    [0x18, PORTS],
    [0x1c, MSIX],
    [4, 7],
  ])

/** Starts both cards as drivers do. */
async function startRings(pair: Pair, rctl: number, rfctl: number): Promise<void> {
  pair.ours.start(rctl, rfctl)
  await pair.poke(0x2000, pair.ours.ram.bytes.slice(0x2000, 0x2200))
  for (const register of [
    0x5008, 0x2170, 0x2800, 0x2808, 0x2900, 0x2908, 0x3800, 0x3808, 0x0400, 0x0100, 0x2818,
  ]) {
    await pair.theirs.ask(`writel ${BASE + register} ${pair.ours.get(register)}`)
  }
  // It waits a second with frames after that.
  await setTimeout(1100)
}

compare('configuration space is what QEMU has, byte by byte', async (t) => {
  const pair = await start()
  t.teardown(() => pair.close())
  for (let at = 0; at < 256; at += 4) {
    await pair.theirs.ask(`outl 0xcf8 ${0x8000_1800 + at}`)
    const theirs = Number(await pair.theirs.ask('inl 0xcfc'))
    // QEMU's machine has enabled it, and given it a line; it is not integrated on a board without PCI Express.
    t.is(pair.ours.card.fn.configRead(at, 4), theirs, `0x${at.toString(16)}`)
  }
})

compare('every register holds what QEMU has after power-on', async (t) => {
  const pair = await start()
  t.teardown(() => pair.close())
  for (let register = 0; register < 0x2_0000; register += 4) {
    const [ours, theirs] = await pair.get(register)
    if (ours !== theirs) t.is(ours, theirs, `register 0x${register.toString(16)}`)
  }
  for (let word = 0; word < 64; word++) {
    await pair.set(0x14, 1 | (word << 2))
    const [ours, theirs] = await pair.get(0x14)
    t.is(ours, theirs, `word ${word}`)
  }
  for (const page of [0, 1, 2, 3, 5, 6, 7, 0x7f]) {
    await pair.set(0x20, 0x0436_0000 | page)
    for (let phy = 0; phy < 32; phy++) {
      await pair.set(0x20, 0x0820_0000 | (phy << 16))
      const [ours, theirs] = await pair.get(0x20)
      t.is(ours, theirs, `PHY ${page}.${phy}`)
    }
  }
})

compare('any writes leave what they leave in QEMU', async (t) => {
  const pair = await start()
  t.teardown(() => pair.close())
  const random = words(0x8257)
  const often = [
    0x08, 0x10, 0x14, 0x20, 0x38, 0x40, 0x108, 0x118, 0xc8, 0xd0, 0xd8, 0x102c, 0x2808, 0x2810,
    0x3808, 0x3840, 0x430, 0x5400, 0x5404, 0x5b00, 0x5b50, 0x8010,
  ]
  for (let i = 0; i < 6000; i++) {
    const isOften = random() % 2 === 0
    const register = isOften ? often[random() % often.length]! : (random() % 0x1_8000) & ~3
    // The reset bit of QEMU 7.2 does next to nothing; cards that are on would wait for frames; it ends when the first
    // buffers of split packets have no bytes; a negotiation takes half a second; ICR and IAM follow the data sheet here.
    const kept =
      register < 8
        ? ~0x0400_0000
        : register === 0x20
          ? ~0x0200
          : register === 0x18
            ? ~0x0900_0000
            : -1
    const value = random() & kept
    const isPhyOem = register === 0x20 && ((value >>> 16) & 31) === 25
    if (register === 0x2170 || register === 0xc0 || isPhyOem) continue
    const isOff = register === 0x0100 || register === 0x0400
    await pair.set(register, (isOff ? value & ~0xc02 : value) >>> 0)
    const read = random() % 2 === 0 ? register : often[random() % often.length]!
    // Drivers test it; QEMU has none.
    if (read === 0x178) continue
    const [mine, other] = await pair.get(read)
    // Causes that QEMU does not let through, and bits of addresses that the card has not.
    const isUpperHalf = (read & ~0x7c) === 0x5400 || (read >= 0x40 && read < 0xc0)
    const shown = read === 0xd0 ? 0x01f7_82d7 : isUpperHalf && (read & 4) !== 0 ? 0x8003_ffff : -1
    const [ours, theirs] = [(mine & shown) >>> 0, (other & shown) >>> 0]
    if (ours !== theirs) {
      t.is(ours, theirs, `0x${read.toString(16)} after write ${i} of 0x${register.toString(16)}`)
      return
    }
  }
  t.pass()
})

for (const [name, rctl, rfctl] of [
  // Without check sequences: QEMU 7.2 has a descriptor of their own for them.
  ['legacy', 0x0400_8002, 0],
  ['extended', 0x0400_8002, 0x8000],
  ['small extended', 0x0403_8022, 0xb000],
  ['split', 0x0400_8402, 0x8000],
] as const) {
  compare(`the same frames fill the same ${name} descriptors`, async (t) => {
    const random = words(0x1000)
    const pair = await start()
    t.teardown(() => pair.close())
    await startRings(pair, rctl, rfctl)
    await pair.set(0x00, 0x4014_0241)
    const unit = name === 'split' ? 2 : 1
    for (let i = 0; i < 24; i++) {
      const to = [undefined, new Uint8Array(6).fill(0xff), Uint8Array.of(1, 2, 3, 4, 5, 6)][
        random() % 3
      ]
      const size = 60 + (random() % 1450)
      // QEMU has no tag in legacy descriptors.
      const isTagged = unit === 1 && rfctl !== 0 && random() % 4 === 0
      const frame =
        random() % 2 === 0
          ? tcpFrame(size, random() % 4 === 0)
          : frameOf(size, to, isTagged ? 0x8100 : 0x88b5)
      pair.send(frame)
      await setTimeout(15)
      const [ours, theirs] = await pair.get(0x2810)
      t.is(ours, theirs, `frame ${i}`)
      t.deepEqual(...(await pair.peek(0x2000, 512)))
      for (let entry = 0; entry < 32 / unit; entry++) pair.ours.giveBuffer(entry)
      await pair.poke(0x2000, pair.ours.ram.bytes.slice(0x2000, 0x2200))
      await pair.set(0x2818, (ours + 32 - unit) % 32)
      if (!t.passed) return
    }
    t.deepEqual(...(await pair.peek(0x1_0000, 0x1_0000)))
    for (const register of [0x00c8, 0x4074, 0x40c0, 0x40d0, 0x405c, 0x4070, 0x4078, 0x407c]) {
      const [mine, other] = await pair.get(register)
      t.is(mine, other, `register 0x${register.toString(16)}`)
    }
  })
}
