import test from 'ava'
import * as fc from 'fast-check'
import {
  FrameBatch,
  Link,
  type LinkEnd,
  MAX_FRAME_BYTES,
  RECORD_FRAME_OFFSET,
  type VirtioError,
  neededBy,
  recordBytes,
} from 'virtio'

/** An end that takes as many frames as it is told to. */
class End implements LinkEnd {
  readonly got: number[][] = []
  readonly told: string[] = []
  accepts = 0
  maxFrame = MAX_FRAME_BYTES
  room = Infinity
  onReceive: () => void = () => {}

  receive(batch: FrameBatch, from: number): number {
    this.onReceive()
    let at = from
    for (; at < batch.used && this.room > 0; at = batch.next(at), this.room--) {
      this.got.push([...batch.frame(at)])
    }
    return at
  }

  resume(): void {
    this.told.push('resume')
  }

  linkChanged(up: boolean): void {
    this.told.push(up ? 'up' : 'down')
  }

  peerChanged(): void {
    this.told.push('peer')
  }
}

function frames(...lengths: number[]): FrameBatch {
  const batch = new FrameBatch()
  for (const [index, length] of lengths.entries()) {
    batch.push(new Uint8Array(length).fill(index + 1))
  }
  return batch
}

test('records are aligned, and say where the next one is', (t) => {
  const lengths = fc.array(fc.integer({ min: 14, max: 200 }), { maxLength: 50 })
  fc.assert(
    fc.property(lengths, (list) => {
      const batch = frames(...list)
      const offsets = [...batch.records()]
      t.is(batch.count, list.length)
      t.deepEqual(
        offsets.map((at) => batch.frameBytes(at)),
        list,
      )
      for (const [index, at] of offsets.entries()) {
        t.is(at % 4, 0)
        t.true(batch.frame(at).every((byte) => byte === index + 1))
        t.true(batch.header(at).every((byte) => byte === 0))
      }
      t.is(
        batch.used,
        list.reduce((sum, length) => sum + recordBytes(length), 0),
      )
    }),
  )
})

test('a record is length, header, frame and padding', (t) => {
  const batch = new FrameBatch()
  const at = batch.push(new Uint8Array(15).fill(9), Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
  t.is(at, 0)
  t.is(batch.used, 32)
  const expected = [27, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0, ...Array(15).fill(9)]
  t.deepEqual([...batch.bytes.subarray(0, 31)], expected)
  t.is(RECORD_FRAME_OFFSET, 16)
})

test('a batch takes no frame that is too short, too long or has no room', (t) => {
  const batch = new FrameBatch(recordBytes(MAX_FRAME_BYTES))
  for (const length of [0, 13, MAX_FRAME_BYTES + 1, -1, Number.NaN]) t.is(batch.append(length), -1)
  t.is(batch.append(MAX_FRAME_BYTES), 0)
  t.is(batch.append(14), -1)
  batch.retract(0)
  t.is(batch.count, 0)
  t.is(batch.append(14), 0)
  for (const capacity of [0, 100, 600_001, Number.NaN]) {
    const error = t.throws<VirtioError>(() => new FrameBatch(capacity))
    t.is(error?.code, 'E_CONFIG')
  }
})

test('what was used before is no part of a header that is not given', (t) => {
  const batch = new FrameBatch()
  batch.bytes.fill(0xff)
  t.deepEqual([...batch.header(batch.append(20))], Array(12).fill(0))
})

test('records from elsewhere are counted, or refused whole', (t) => {
  const batch = frames(14, 60, 1514)
  const { used } = batch
  batch.clear()
  batch.adopt(used)
  t.is(batch.count, 3)
  for (const bad of [used - 4, used + 4, used + 16, batch.bytes.length + 4]) {
    t.is(t.throws<VirtioError>(() => batch.adopt(bad))?.code, 'E_REQUEST')
  }
  batch.view.setUint32(0, 0xffff_ffff, true)
  t.throws(() => batch.adopt(used))
  batch.adopt(0)
  t.is(batch.count, 0)
})

test('a record is copied from one batch to another with its header', (t) => {
  const from = frames(14)
  from.header(0)[0] = 1
  const to = frames(60)
  t.true(to.copyRecord(from, 0))
  const [, at] = [...to.records()]
  t.deepEqual([...to.frame(at!)], Array(14).fill(1))
  t.is(to.header(at!)[0], 1)
  t.is(to.count, 2)
})

test('frames cross the link, what is not taken is offered again', (t) => {
  const [a, b] = [new End(), new End()]
  const link = Link.connect(a, b)
  const batch = frames(14, 60, 100)
  b.room = 2
  const rest = link.a.send(batch)
  t.is(rest, recordBytes(14) + recordBytes(60))
  t.is(b.got.length, 2)
  b.room = Infinity
  a.told.length = 0
  link.b.ready()
  t.deepEqual(a.told, ['resume'])
  t.is(link.a.send(batch, rest), batch.used)
  t.deepEqual(
    b.got.map((frame) => frame.length),
    [14, 60, 100],
  )
  t.deepEqual(link.a.counters, { frames: 3, bytes: 174, dropped: 0 })
  t.is(link.a.send(batch, batch.used), batch.used)
})

test('a link that is down, or has one end, drops frames', (t) => {
  const a = new End()
  const link = new Link()
  link.a.attach(a)
  const batch = frames(14, 60)
  t.is(link.a.send(batch), batch.used)
  t.is(link.a.counters.dropped, 2)
  const b = new End()
  link.setUp(false)
  link.b.attach(b)
  t.deepEqual(b.told, ['down'])
  t.is(link.a.send(batch), batch.used)
  t.is(b.got.length, 0)
  link.setUp(true)
  link.setUp(true)
  t.deepEqual(b.told, ['down', 'up', 'resume'])
  link.a.send(batch)
  t.is(b.got.length, 2)
  t.is(t.throws<VirtioError>(() => link.b.attach(a))?.code, 'E_CONFIG')
  a.told.length = 0
  link.b.detach()
  t.deepEqual(a.told, ['peer', 'resume'])
  t.is(link.a.peerAccepts, 0)
})

test('an end is told what the other accepts', (t) => {
  const [a, b] = [new End(), new End()]
  const link = Link.connect(a, b)
  a.told.length = 0
  b.accepts = 3
  link.b.acceptsChanged()
  t.deepEqual(a.told, ['peer'])
  t.is(link.a.peerAccepts, 3)
})

test('frames that go round wait for the send that they are part of', async (t) => {
  const [a, b] = [new End(), new End()]
  const link = Link.connect(a, b)
  const batch = frames(14)
  let nested = -1
  b.onReceive = () => {
    b.onReceive = () => {}
    nested = link.a.send(batch)
  }
  a.told.length = 0
  t.is(link.a.send(batch), batch.used)
  t.is(nested, 0)
  // Not before the sender knows what was taken of the first batch.
  t.deepEqual(a.told, [])
  await Promise.resolve()
  t.deepEqual(a.told, ['resume'])
})

test('an observer hears what was taken until it leaves', (t) => {
  const [a, b] = [new End(), new End()]
  const link = Link.connect(a, b)
  const heard: unknown[] = []
  const leave = link.observe((side, batch, from, to) => {
    for (let at = from; at < to; at = batch.next(at)) {
      heard.push([side === link.a, batch.frameBytes(at)])
    }
  })
  b.room = 1
  link.a.send(frames(14, 60))
  link.b.send(frames(20))
  leave()
  link.a.send(frames(14))
  t.deepEqual(heard, [
    [true, 14],
    [false, 20],
  ])
})

test('an observer hears an answer after what it answers', (t) => {
  const [a, b] = [new End(), new End()]
  const link = Link.connect(a, b)
  const heard: unknown[] = []
  link.observe((side, batch, from, to) => {
    for (let at = from; at < to; at = batch.next(at)) {
      heard.push([side === link.a, batch.frameBytes(at)])
    }
  })
  const answer = frames(40)
  b.onReceive = () => {
    link.b.send(answer)
    // The batch is the sender's again.
    answer.clear()
    answer.append(50)
    link.b.send(answer)
  }
  link.a.send(frames(14, 60))
  t.deepEqual(heard, [
    [true, 14],
    [true, 60],
    [false, 40],
    [false, 50],
  ])
})

test('a header says what its receiver must accept', (t) => {
  t.is(neededBy(0, 0), 0)
  t.is(neededBy(1, 0), 1)
  t.is(neededBy(1, 1), 3)
  t.is(neededBy(1, 0x81), 1 | 2 | 8)
  t.is(neededBy(1, 4), 5)
  t.is(neededBy(1, 5), 0x21)
  for (const bad of [2, 6, 0x7f, 0x80, 0x83, 0x85, 0xff]) t.is(neededBy(0, bad), undefined)
})
