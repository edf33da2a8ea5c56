// Every register after random accesses, against the QEMU that is installed. Its time stands still.
import test from 'ava'

import { HPET_BASE } from '../src/chipset/hpet/hpet.ts'
import { HpetFixture } from './support/hpet-fixture.ts'
import { hasPeer, startPeer } from './support/qtest.ts'
import { words } from './support/random.ts'

const compare = hasPeer ? test : test.skip
const STEPS = 400
/** What there is, and some that are reserved. Where a fourth comparator would be QEMU has one by mistake. */
const REGISTERS = [
  0x00,
  0x04,
  0x08,
  0x10,
  0x14,
  0x20,
  0xf0,
  0xf4,
  ...[0, 1, 2].flatMap((n) =>
    [0x00, 0x04, 0x08, 0x0c, 0x10, 0x14, 0x18].map((r) => 0x100 + 0x20 * n + r),
  ),
]

/** A value that does something at a register. */
function valueFor(register: number, random: () => number): number {
  if (register === 0x10) return random() % 4 === 0 ? random() : random() & 1 ? 3 : 1
  if (register < 0x100) return random()
  const field = register & 0x1f
  // No messages: there is nobody to take them.
  if (field === 0x00) return random() & 0x3f4e
  // Periods of a few ticks would only keep both busy.
  if (field === 0x08) return (random() % 50_000) + 2_000
  return field === 0x0c ? (random() % 4 === 0 ? random() : 0) : random()
}

compare('registers are those of QEMU 7.2 after whatever was written', async (t) => {
  for (const kind of ['i440fx', 'q35'] as const) {
    const peer = startPeer('-M', kind === 'q35' ? 'q35' : 'pc')
    const { hpet } = new HpetFixture(kind === 'q35' ? 0xff_0104 : 4)
    try {
      const random = words(0x4e7)
      for (let step = 0; step < STEPS; step++) {
        const register = REGISTERS[random() % REGISTERS.length]!
        const value = valueFor(register, random)
        hpet.write(register, 4, value)
        await peer.ask(`writel ${HPET_BASE + register} ${value}`)
        for (const at of REGISTERS) {
          const theirs = Number(await peer.ask(`readl ${HPET_BASE + at}`))
          const what = `${kind}, step ${step}, register 0x${at.toString(16)}`
          if (hpet.read(at, 4) !== theirs) t.is(hpet.read(at, 4), theirs, what)
        }
      }
      t.is(hpet.read(0, 1), Number(await peer.ask(`readb ${HPET_BASE}`)))
      t.is(hpet.read(2, 2), Number(await peer.ask(`readw ${HPET_BASE + 2}`)))
    } finally {
      peer.close()
    }
  }
})
