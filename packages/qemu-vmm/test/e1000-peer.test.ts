// The e1000 against QEMU's: the same accesses, the same values, the same frames.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import test from 'ava'
import { CardPair } from './support/card-pair.ts'
import {
  BASE,
  CONTEXT,
  CUT,
  DATA,
  E1000Driver,
  END,
  REPORT,
  TAGGED,
  TX_DATA,
  frameOf,
} from './support/e1000-driver.ts'
import { haltingFirmware, hasPeer } from './support/qtest.ts'
import { words } from './support/random.ts'

const compare = hasPeer ? test.serial : test.serial.skip
const firmware = join(mkdtempSync(join(tmpdir(), 'e1000-')), 'firmware')
haltingFirmware(firmware)
test.after.always(() => rmSync(dirname(firmware), { recursive: true }))

type Pair = CardPair<E1000Driver>

const start = (): Promise<Pair> =>
  CardPair.start(new E1000Driver(), 'e1000', BASE, firmware, [
    [0x10, BASE],
    [4, 6],
  ])

/** Starts both cards as drivers do. */
async function startRings(pair: Pair, rctl: number): Promise<void> {
  pair.ours.start(rctl)
  await pair.poke(0x2000, pair.ours.ram.bytes.slice(0x2000, 0x2100))
  for (const register of [0x2800, 0x2808, 0x3800, 0x3808, 0x0400, 0x0100, 0x2818]) {
    await pair.theirs.ask(`writel ${BASE + register} ${pair.ours.get(register)}`)
  }
  // It waits a second with frames after that.
  await setTimeout(1100)
}

compare('every register holds what QEMU has after power-on', async (t) => {
  const pair = await start()
  t.teardown(() => pair.close())
  for (let register = 0; register < 0x1_0000; register += 4) {
    const [ours, theirs] = await pair.get(register)
    if (ours !== theirs) t.is(ours, theirs, `register 0x${register.toString(16)}`)
  }
  for (let word = 0; word < 64; word++) {
    await pair.set(0x14, 1 | (word << 8))
    const [ours, theirs] = await pair.get(0x14)
    t.is(ours, theirs, `word ${word}`)
  }
  for (let phy = 0; phy < 32; phy++) {
    await pair.set(0x20, 0x0820_0000 | (phy << 16))
    const [ours, theirs] = await pair.get(0x20)
    t.is(ours, theirs, `PHY ${phy}`)
  }
})

compare('any writes leave what they leave in QEMU', async (t) => {
  const pair = await start()
  t.teardown(() => pair.close())
  const random = words(0x8254)
  const often = [0x10, 0x14, 0x20, 0xc0, 0xc8, 0xd0, 0xd8, 0x2808, 0x2810, 0x3808, 0x5400, 0x5404]
  for (let i = 0; i < 6000; i++) {
    const register = random() % 2 === 0 ? often[random() % 12]! : (random() % 0x1_0000) & ~3
    // Not ours is QEMU's: its reset bit does nothing, and cards that are on would wait for frames.
    // A negotiation takes half a second.
    const kept = register === 0 ? ~0x0400_0000 : register === 0x20 ? ~0x200 : -1
    const value = random() & kept
    const isOff = register === 0x0100 || register === 0x0400
    await pair.set(register, (isOff ? value & ~2 : value) >>> 0)
    const read = random() % 2 === 0 ? register : often[random() % 12]!
    const [ours, theirs] = await pair.get(read)
    if (ours !== theirs) {
      t.is(ours, theirs, `0x${read.toString(16)} after write ${i}`)
      return
    }
  }
  t.pass()
})

/** The descriptors of a packet are of one kind. */
type Kind = 'legacy' | 'data' | 'cut'
const kinds: readonly Kind[] = ['legacy', 'data', 'cut', 'cut']

/** A descriptor of a kind, for a frame or a part of one. */
function descriptor(
  random: () => number,
  isLast: boolean,
  kind: Kind,
  [tagged, special]: readonly [number, number],
): number[] {
  const length = 60 + (random() % 1000)
  const end = isLast ? END : 0
  const report = random() % 2 === 0 ? REPORT : 0
  const address = TX_DATA + (random() % 0x1000)
  if (kind === 'legacy') return [address, 0, end | report | tagged | length, special]
  const options = (random() % 4) << 8
  return [
    address,
    0,
    DATA | end | report | tagged | (kind === 'cut' ? CUT : 0) | length,
    special | options,
  ]
}

/** A context as drivers make them, but with any place for the sums. */
function context(random: () => number, cut: boolean, payload: number): number[] {
  const ip = 14 | ((24 + (random() % 4)) << 8) | (33 << 16)
  const tcp = 34 | ((50 + (random() % 3)) << 8)
  const kind = (random() % 4 === 0 ? 0 : 0x0100_0000) | 0x0200_0000
  // No whole number of segments: QEMU sends an empty one behind them.
  const segment = 101 + 2 * (random() % 200)
  return [ip, tcp, CONTEXT | (cut ? CUT : 0) | kind | payload, ((54 << 8) | (segment << 16)) >>> 0]
}

compare('the same descriptors make the same frames, sums and counts', async (t) => {
  const pair = await start()
  t.teardown(() => pair.close())
  await startRings(pair, 0x8002)
  const random = words(0x100e)
  await pair.poke(
    TX_DATA,
    Uint8Array.from({ length: 0x2000 }, () => random()),
  )
  let tail = 0
  for (let packet = 0; packet < 300; packet++) {
    await pair.set(0, random() % 2 === 0 ? 0x4014_0240 : 0x0014_0240)
    const kind = kinds[random() % 4]!
    const parts = 1 + (random() % 3)
    const tag = [random() % 3 === 0 ? TAGGED : 0, random() & 0xffff_0000] as const
    const data = Array.from({ length: parts }, (_, i) =>
      descriptor(random, i === parts - 1, kind, tag),
    )
    const total = data.reduce((sum, [, , command]) => sum + (command! & 0xffff), 0)
    const all = [context(random, kind === 'cut', total - 54), ...data]
    for (const words of all) {
      const at = 0x1000 + 16 * tail
      const bytes = new Uint8Array(16)
      const view = new DataView(bytes.buffer)
      for (const [i, word] of words.entries()) view.setUint32(4 * i, word >>> 0, true)
      await pair.poke(at, bytes)
      tail = (tail + 1) % 16
    }
    await pair.set(0x3818, tail)
    const [ours, theirs] = await pair.frames()
    t.deepEqual(ours, theirs, `packet ${packet}`)
    for (const register of [0x3810, 0x00c0, 0x40d4, 0x40c8, 0x40cc, 0x40f8, 0x40d8]) {
      const [mine, other] = await pair.get(register)
      t.is(mine, other, `register 0x${register.toString(16)} at packet ${packet}`)
    }
    t.deepEqual(...(await pair.peek(0x1000, 256)))
    if (!t.passed) return
  }
})

compare('the same frames fill the same descriptors', async (t) => {
  const random = words(0x1000)
  for (const rctl of [0x8002, 0x3_8022, 0x0403_8022, 0x8012]) {
    const pair = await start()
    t.teardown(() => pair.close())
    await startRings(pair, rctl)
    await pair.set(0x00, 0x4014_0240)
    for (let i = 0; i < 24; i++) {
      const to = [undefined, new Uint8Array(6).fill(0xff), Uint8Array.of(1, 2, 3, 4, 5, 6)][
        random() % 3
      ]
      const frame = frameOf(14 + (random() % 1500), to, random() % 3 === 0 ? 0x8100 : 0x0800)
      pair.send(frame)
      await setTimeout(15)
      const [ours, theirs] = await pair.get(0x2810)
      t.is(ours, theirs, `frame ${i} with 0x${rctl.toString(16)}`)
      await pair.set(0x2818, (ours + 15) % 16)
      t.deepEqual(...(await pair.peek(0x2000, 256)))
      // As drivers do: what is left in a descriptor, QEMU leaves there.
      for (let entry = 0; entry < 16; entry++) {
        await pair.poke(0x2008 + 16 * entry, new Uint8Array(8))
      }
      if (!t.passed) return
    }
    // The check sequence, which neither writes, lies behind each frame.
    t.deepEqual(...(await pair.peek(0x1_0000, 0x8000)))
    // Those of broadcasts and groups, which QEMU does not count here, are left out.
    for (const register of [0x00c8, 0x4074, 0x40c0, 0x40d0, 0x405c, 0x4070]) {
      const [mine, other] = await pair.get(register)
      t.is(mine, other, `register 0x${register.toString(16)}`)
    }
  }
})
