import test from 'ava'

import { SmbusHost } from '../src/chipset/smbus.ts'
import { VmmError } from '../src/errors.ts'
import { hasPeer, startPeer } from './support/qtest.ts'
import { words } from './support/random.ts'

const compare = hasPeer ? test : test.skip

test('whoever is addressed does not answer, and the driver is told', (t) => {
  let level = false
  const host = new SmbusHost((on) => {
    level = on
  })
  host.write(4, 1, 0xa1)
  host.write(2, 1, 0x48)
  t.is(host.read(0), 0x01, 'busy')
  t.is(host.read(0), 0x04, 'no device')
  t.is(host.read(2), 0x08, 'the start bit reads as 0')
  t.false(level)
  host.write(0, 1, 0xff)
  t.is(host.read(0), 0)
  host.write(2, 1, 0x49)
  t.true(level)
  host.write(0, 1, 0x04)
  t.false(level)
  host.write(2, 1, 0x48)
  host.write(2, 1, 0x02)
  t.is(host.read(0), 0x10, 'killed')
})

test('a loaded host goes on exactly like the one that was saved', (t) => {
  const random = words(0x5b)
  for (let round = 0; round < 50; round++) {
    const [first, second] = [new SmbusHost(() => {}), new SmbusHost(() => {})]
    const pair = [first, second] as const
    for (let i = 0; i < 400; i++) {
      if (i === 200) second.load(structuredClone(first.save()))
      const [offset, value, isWrite] = [random() & 15, random(), random() % 2 === 0]
      const values = pair.slice(0, i < 200 ? 1 : 2).map((host) => {
        if (isWrite) host.write(offset, 1, value)
        return isWrite ? 0 : host.read(offset)
      })
      if (values.some((v) => v !== values[0] || v < 0 || v > 255)) return t.fail(`step ${i}`)
    }
    t.deepEqual(first.save(), second.save())
  }
  const error = t.throws(() => new SmbusHost(() => {}).load({} as never), { instanceOf: VmmError })
  t.is(error.code, 'E_STATE')
})

compare('an address without a device is answered as by QEMU 7.2', async (t) => {
  const peer = startPeer('-M', 'pc')
  const host = new SmbusHost(() => {})
  const base = 0xb100
  const out = async (offset: number, value: number): Promise<void> => {
    host.write(offset, 1, value)
    await peer.ask(`outb ${base + offset} ${value}`)
  }
  try {
    for (const protocol of [0, 1, 2, 3]) {
      for (const interrupt of [0, 1]) {
        await out(0, 0xff)
        await out(4, 0x21)
        await out(3, 0x12)
        await out(2, 0x40 | (protocol << 2) | interrupt)
        for (const offset of [0, 0, 2, 3, 4]) {
          const theirs = Number(await peer.ask(`inb ${base + offset}`))
          t.is(host.read(offset), theirs, `protocol ${protocol}, register ${offset}`)
        }
      }
    }
  } finally {
    peer.close()
  }
})
