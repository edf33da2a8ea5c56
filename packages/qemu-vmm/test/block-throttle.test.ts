// Limits of drives: how much may begin when, on a clock of the test's own; and how they are given.
import { writeFileSync } from 'node:fs'
import test from 'ava'

import { Bucket } from '../src/block/throttle/bucket.ts'
import { Member, ThrottleGroup } from '../src/block/throttle/group.ts'
import type { Direction, ThrottleClock } from '../src/block/throttle/group.ts'
import { type ThrottleLimits, checkLimits } from '../src/block/throttle/limits.ts'
import { Throttled } from '../src/block/throttle/throttled.ts'
import { Drives } from '../src/machine/drives.ts'
import { openDrive } from '../src/machine/open-drive.ts'
import { commandLine } from './support/command-line.ts'
import { temporary } from './support/disks.ts'
import { FakeDrive } from './support/fake-drive.ts'
import { negotiated } from './support/qmp-session.ts'

/** Time that goes on when it is told to, or to the next timer. */
class FakeClock implements ThrottleClock {
  ns = 0
  readonly #timers = new Map<object, { at: number; callback: () => void }>()

  nowNs(): number {
    return this.ns
  }

  after(ms: number, callback: () => void): () => void {
    const key = {}
    this.#timers.set(key, { at: this.ns + ms * 1e6, callback })
    return () => this.#timers.delete(key)
  }

  /** Rings all timers up to a time, in their order. */
  async run(seconds: number): Promise<void> {
    const end = this.ns + seconds * 1e9
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve))
      const [key, next] = [...this.#timers].toSorted(([, a], [, b]) => a.at - b.at)[0] ?? []
      if (key === undefined || next === undefined || next.at > end) break
      this.ns = Math.max(this.ns, next.at)
      this.#timers.delete(key)
      next.callback()
    }
    this.ns = end
  }
}

const only = (limits: ThrottleLimits['limits'], iopsSize?: number): ThrottleLimits => ({
  limits,
  ...(iopsSize === undefined ? {} : { iopsSize }),
})

test('a bucket lets a tenth of a second through, then the average', (t) => {
  const bucket = new Bucket({ average: 100 })
  bucket.fill(10)
  t.is(bucket.wait(), 0)
  bucket.fill(1)
  t.is(bucket.wait(), 0.01)
  bucket.leak(0.01)
  t.is(bucket.wait(), 0)
})

test('a burst goes on for its length, then the average counts', (t) => {
  const bucket = new Bucket({ average: 100, max: 1000, maxLength: 3 })
  let begun = 0
  // Ten seconds in steps of a millisecond.
  const until = (seconds: number): number => {
    for (let step = 0; step < seconds * 1000; step++) {
      for (; bucket.wait() === 0; begun++) bucket.fill(1)
      bucket.leak(0.001)
    }
    return begun
  }
  const burst = until(2)
  t.true(burst >= 1900 && burst <= 2200, `${burst} in the first two seconds of the burst`)
  until(8)
  const before = begun
  const usual = until(10) - before
  t.true(usual >= 990 && usual <= 1010, `${usual} in ten seconds after it`)
})

/** Requests that begin within a time, as many as there can be waiting. */
async function begun(
  limits: ThrottleLimits,
  seconds: number,
  bytes: number,
  directions: readonly Direction[],
): Promise<Record<Direction, number>> {
  const clock = new FakeClock()
  const group = new ThrottleGroup('g', clock)
  group.setLimits(limits)
  const member = new Member()
  group.join(member)
  const counts: Record<Direction, number> = { read: 0, write: 0 }
  for (const direction of directions) {
    for (let i = 0; i < 1000; i++) {
      void group.enter(member, direction, bytes).then(() => counts[direction]++)
    }
  }
  await clock.run(seconds)
  return counts
}

test('as much begins as the limits say, of each direction or of both', async (t) => {
  const rates = async (
    limits: ThrottleLimits,
    bytes: number,
    ...directions: Direction[]
  ): Promise<Record<Direction, number>> => await begun(limits, 4, bytes, directions)
  const near = (count: number, wanted: number): void => {
    t.true(Math.abs(count - wanted) <= wanted * 0.05 + 1, `${count} began, not ${wanted}`)
  }
  // Four seconds, and a tenth that comes at once.
  near((await rates(only({ 'iops-total': { average: 100 } }), 512, 'read')).read, 410)
  near((await rates(only({ 'bps-write': { average: 1 << 20 } }), 16_384, 'write')).write, 262)
  const both = await rates(only({ 'iops-total': { average: 100 } }), 512, 'read', 'write')
  near(both.read + both.write, 410)
  const one = await rates(only({ 'iops-read': { average: 50 } }), 512, 'read', 'write')
  near(one.read, 205)
  t.is(one.write, 1000)
  // A request of four times the size counts four times.
  near((await rates(only({ 'iops-total': { average: 100 } }, 4096), 16_384, 'read')).read, 103)
  near((await rates(only({}), 512, 'read')).read, 1000)
})

test('drives of a group take turns, also when one asks for much more', async (t) => {
  const clock = new FakeClock()
  const group = new ThrottleGroup('g', clock)
  group.setLimits(only({ 'iops-total': { average: 100 } }))
  const counts = [0, 0]
  const members = [new Member(), new Member()]
  for (const [i, member] of members.entries()) {
    group.join(member)
    for (let n = 0; n < (i === 0 ? 2000 : 200); n++) {
      void group.enter(member, 'read', 512).then(() => counts[i]!++)
    }
  }
  await clock.run(2)
  t.true(Math.abs(counts[0]! - counts[1]!) <= 11, counts.join(', '))
  t.true(counts[1]! > 90)
  // One that leaves does not wait, and the other has all.
  group.leave(members[0]!)
  await clock.run(0)
  t.is(counts[0], 2000)
})

test('what waits goes on when limits are taken away', async (t) => {
  const clock = new FakeClock()
  const drive = new FakeDrive(1 << 16)
  const device = new Throttled(drive)
  const group = new ThrottleGroup('g', clock)
  device.setGroup(group)
  group.setLimits(only({ 'iops-total': { average: 1 } }))
  let done = 0
  const all = Array.from({ length: 20 }, () =>
    device.writev(0, [new Uint8Array(512)]).then(() => done++),
  )
  await clock.run(3)
  t.true(done >= 3 && done <= 5, `${done} of 20 in three seconds`)
  group.setLimits(only({ 'iops-total': { average: 0 } }))
  await Promise.all(all)
  t.is(done, 20)
})

test('a read at once is one that need not wait, and counts', async (t) => {
  const clock = new FakeClock()
  const drive = new FakeDrive(1 << 16)
  const device = new Throttled(drive)
  const target = { buffers: [new Uint8Array(512)], parts: Uint32Array.of(0, 0, 512), count: 1 }
  const now = (): boolean => device.readNow(0, { ...target, length: 512 })
  drive.now = true
  t.true(now())
  const group = new ThrottleGroup('g', clock)
  device.setGroup(group)
  group.setLimits(only({ 'iops-read': { average: 20 } }))
  t.deepEqual(
    Array.from({ length: 5 }, now),
    [true, true, true, false, false],
    'a tenth of a second, and the one that fills the bucket',
  )
  await clock.run(0.1)
  t.true(now())
})

test('limits that make no sense are refused as QEMU does', (t) => {
  const total = { average: 5 }
  for (const [limits, message] of [
    [only({ 'bps-total': total, 'bps-read': total }), /total values and read\/write values/],
    [only({ 'iops-total': total, 'iops-write': total }), /total values and read\/write values/],
    [only({ 'bps-total': total }, 512), /iops size requires an iops value/],
    [only({ 'bps-total': { average: -1 } }), /must be within \[0, 1000000000000000\]/],
    [only({ 'bps-total': { average: 2e15 } }), /must be within/],
    [only({ 'bps-total': { average: 5, max: 4 } }), /cannot be lower/],
    [only({ 'bps-total': { average: 0, max: 4 } }), /require corresponding/],
    [only({ 'bps-total': { average: 1, maxLength: 2 } }), /length set without burst rate/],
    [only({ 'bps-total': { average: 1, max: 2, maxLength: 0 } }), /length cannot be 0/],
    [only({ 'bps-total': { average: 1, max: 1e15, maxLength: 9 } }), /length too high/],
  ] as const) {
    t.throws(() => checkLimits(limits), { code: 'E_BLOCK_OPTION', message })
  }
  t.notThrows(() => checkLimits(only({ 'bps-read': total, 'iops-total': total }, 512)))
})

test('-drive has limits by both of their names', (t) => {
  const { config, refusal } = commandLine('-kernel', 'k', '-nographic', '-nodefaults')
  const limits = (keys: string): unknown =>
    config('-drive', `file=x,if=none,id=d,${keys}`).drives?.[0]?.throttle
  const wanted = { limits: { 'bps-read': { average: 2 << 20, max: 4 << 20, maxLength: 5 } } }
  const now = 'throttling.bps-read=2M,throttling.bps-read-max=4M,throttling.bps-read-max-length=5'
  t.deepEqual(limits(now), { limits: wanted })
  t.deepEqual(limits('bps_rd=2M,bps_rd_max=4M,bps_rd_max_length=5'), { limits: wanted })
  t.deepEqual(limits('iops=7,iops_size=4k,group=g'), {
    limits: { limits: { 'iops-total': { average: 7 } }, iopsSize: 4096 },
    group: 'g',
  })
  t.deepEqual(limits('throttling.group=g'), { group: 'g' })
  t.is(limits('format=raw'), undefined)
  t.regex(refusal('-drive', 'file=x,iops=1,iops_rd=1'), /cannot be used at the same time/)
  t.regex(refusal('-drive', 'file=x,iops=1,throttling.iops-total=1'), /its alias 'iops' can't/)
  t.regex(refusal('-drive', 'file=x,iops=many'), /expects a non-negative number/)
})

test('block_set_io_throttle limits a drive, and query-block shows it', async (t) => {
  const folder = temporary(t)
  writeFileSync(folder('disk'), new Uint8Array(1 << 20))
  const limited = { group: 'both', limits: only({ 'iops-total': { average: 3 } }) }
  const drives = await Drives.open(
    ['d', 'e'].map((id) => ({
      id,
      file: folder('disk'),
      format: 'raw' as const,
      locking: false,
      deleteWithDevice: true,
      ...(id === 'd' ? { throttle: limited } : { throttle: { group: 'both' } }),
    })),
    openDrive,
    { onStop() {}, log() {}, nowNs: () => 0 },
  )
  t.teardown(() => drives.close())
  drives.take('d', 'vd')
  t.deepEqual(
    drives.list().map(({ throttle }) => throttle),
    [limited, limited],
  )

  const { machine, say } = await negotiated()
  machine.open = drives.list()
  const ask = async (execute: string, args: object = {}): Promise<unknown> =>
    (await say(JSON.stringify({ execute, arguments: args })))[0]
  const none = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 }
  t.like(await ask('query-block'), {
    return: [{ inserted: { ...none, iops: 3, group: 'both' } }, { inserted: { iops: 3 } }],
  })
  const asked = { ...none, bps: 10, bps_max: 20, bps_max_length: 2 }
  t.deepEqual(await ask('block_set_io_throttle', { id: 'vd', ...asked }), { return: {} })
  const call = machine.calls.at(-1) ?? ''
  t.regex(call, /^throttleDrive "d" \{.*"bps-total":\{"average":10,"max":20,"maxLength":2\}.*"vd"$/)
  t.like(await ask('block_set_io_throttle', { device: 'x', ...none }), {
    error: { class: 'DeviceNotFound', desc: "Device 'x' not found" },
  })

  drives.throttle('d', only({ 'bps-total': { average: 10, max: 20, maxLength: 2 } }), 'vd')
  machine.open = drives.list()
  t.like(await ask('query-block'), {
    return: [
      { inserted: { bps: 10, bps_max: 20, bps_max_length: 2, iops: 0, group: 'vd' } },
      { inserted: { iops: 3, group: 'both' } },
    ],
  })
  drives.throttle('d', only({}), 'vd')
  t.is(drives.list()[0]?.throttle, undefined)
  t.throws(() => drives.throttle('d', only({ 'bps-total': { average: -1 } }), 'vd'), {
    code: 'E_BLOCK_OPTION',
  })
  t.throws(() => drives.throttle('none', only({}), 'vd'), { code: 'E_NO_DRIVE' })
})

test('limits are those of the drive, whatever medium is in it', async (t) => {
  const folder = temporary(t)
  writeFileSync(folder('disk'), new Uint8Array(1 << 20))
  const throttle = { group: 'g', limits: only({ 'iops-total': { average: 3 } }) }
  const bad = { limits: only({ 'iops-total': { average: -3 } }) }
  const events = { onStop() {}, log() {}, nowNs: () => 0 }
  await t.throwsAsync(Drives.open([{ id: 'cd', throttle: bad }], openDrive, events), {
    code: 'E_BLOCK_OPTION',
  })
  const drives = await Drives.open([{ id: 'cd', throttle }], openDrive, events)
  t.teardown(() => drives.close())
  drives.takeRemovable('cd', 'ide-cd', 'ide-cd', {
    hasTray: true,
    isTrayOpen: true,
    isLocked: false,
    setMedium() {},
    moveTray() {},
    requestEject() {},
    onTrayMoved() {},
  })
  const backend = drives.findBackend({ device: 'cd' })!
  const image = { file: folder('disk'), format: 'raw' as const, locking: false }
  for (const id of ['first', 'second']) {
    await drives.addNode({ id, ...image })
    t.is(drives.list().find((drive) => drive.id === id)?.throttle, undefined)
    drives.insert(backend, id)
    t.deepEqual(drives.list().find((drive) => drive.id === id)?.throttle, throttle)
    await drives.eject(backend)
    t.is(drives.list().find((drive) => drive.id === id)?.throttle, undefined)
  }
})
