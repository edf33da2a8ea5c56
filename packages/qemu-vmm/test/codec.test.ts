import test from 'ava'
import { codecOf } from '../src/block/qcow2/codecs.ts'
import { hostio } from '../src/native/hostio.ts'
import { random } from './support/random.ts'

const CLUSTER = 65_536

function text(seed: number): Uint8Array {
  const below = random(seed)
  return new Uint8Array(CLUSTER).map(() => 97 + below(4))
}

for (const type of ['zlib', 'zstd'] as const) {
  const codec = codecOf(type)

  test(`${type} packs a cluster, and unpacks it whatever follows`, async (t) => {
    const packed = (await codec.pack(text(1)))!
    t.true(packed.byteLength < CLUSTER / 2)
    const followed = new Uint8Array(packed.byteLength + 700).fill(0xee)
    followed.set(packed)
    t.is(Buffer.compare(await codec.unpack(followed, CLUSTER), text(1)), 0)
  })

  test(`${type} refuses what does not become exactly a cluster`, async (t) => {
    const packed = (await codec.pack(text(2)))!
    await t.throwsAsync(codec.unpack(packed, CLUSTER / 2))
    await t.throwsAsync(codec.unpack(packed, CLUSTER * 2))
    await t.throwsAsync(codec.unpack(packed.subarray(0, packed.byteLength / 2), CLUSTER))
    await t.throwsAsync(codec.unpack(new Uint8Array(0), CLUSTER))
    await t.throwsAsync(codec.unpack(new Uint8Array(512), CLUSTER))
  })

  test(`${type} survives damage`, async (t) => {
    const packed = (await codec.pack(text(3)))!
    const below = random(7)
    for (let i = 0; i < 300; i++) {
      const damaged = packed.slice()
      for (let n = 1 + below(4); n > 0; n--)
        damaged[below(below(2) === 0 ? 40 : packed.length)] = below(256)
      const result = await codec.unpack(damaged, CLUSTER).catch(() => undefined)
      t.true(result === undefined || result.byteLength === CLUSTER)
    }
  })
}

test('zstd says when a cluster does not become smaller', async (t) => {
  const below = random(5)
  t.is(await codecOf('zstd').pack(new Uint8Array(4096).map(() => below(256))), undefined)
})

test('a zstd frame that wants a window of 128 MiB is refused', async (t) => {
  // Magic number, a descriptor without a content size, the window, and one raw block of nothing.
  const frame = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00)
  await t.throwsAsync(codecOf('zstd').unpack(frame, 512), { message: /indow|memory/ })
})

test('runs of zeros are found in any position', (t) => {
  const below = random(9)
  for (let round = 0; round < 200; round++) {
    const bytes = new Uint8Array(1 + below(5000))
    for (let n = below(5); n > 0; n--) bytes[below(bytes.length)] = 1
    const block = 1 + below(600)
    const runs = new Uint32Array(bytes.length + 2)
    const count = hostio().zeroRuns(bytes, block, runs)
    let at = 0
    for (let i = 0; i < count; i++) {
      const end = at + runs[i]!
      for (let from = at; from < end; from += block) {
        const zero = bytes.subarray(from, Math.min(from + block, end)).every((byte) => byte === 0)
        t.is(zero, i % 2 === 1)
      }
      at = end
    }
    t.is(at, bytes.length)
  }
})
