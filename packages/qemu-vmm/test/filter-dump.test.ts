// Captures: files that tcpdump reads, of what went over a cable.
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import type { ExecutionContext } from 'ava'
import { Link, VIRTIO_NET_HDR_F_NEEDS_CSUM } from 'virtio'
import { NetEnd, batchOf } from 'virtio/testing'
import { FilterDump } from '../src/net/filter-dump.ts'
import type { DumpedNetworks } from '../src/net/filter-dump.ts'
import type { FilterDumpConfig } from '../src/objects/config.ts'
import { SeededEntropy } from '../src/machine/entropy.ts'
import { Netdevs } from '../src/net/netdevs.ts'
import { ObjectRegistry } from '../src/objects/registry.ts'
import { frameOf, sumOf } from './support/e1000-driver.ts'
import { commandLine } from './support/command-line.ts'

/** A cable with both ends, and a capture of it. */
function capture(
  t: ExecutionContext,
  more: Partial<FilterDumpConfig> = {},
): { link: Link; dump: FilterDump; path: string; said: string[] } {
  const folder = mkdtempSync(join(tmpdir(), 'dump-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'capture')
  const link = Link.connect(new NetEnd(), new NetEnd())
  const said: string[] = []
  const networks: DumpedNetworks = {
    report: (message) => void said.push(message),
    observe(_id, observer) {
      const [out, back] = [observer(true), observer(false)]
      return link.observe((side, ...rest) => (side === link.b ? out : back)(side, ...rest))
    },
  }
  const config: FilterDumpConfig = {
    type: 'filter-dump',
    id: 'd',
    netdev: 'n',
    file: path,
    ...more,
  }
  const dump = new FilterDump(config, networks)
  t.teardown(() => dump.close())
  return { link, dump, path, said }
}

/** The frames of a capture: their bytes, their lengths on the cable, and their times in milliseconds. */
function read(path: string): { frame: Uint8Array; length: number; ms: number }[] {
  const file = readFileSync(path)
  const frames = []
  for (let at = 24; at < file.length;) {
    const kept = file.readUInt32LE(at + 8)
    const ms = file.readUInt32LE(at) * 1000 + file.readUInt32LE(at + 4) / 1000
    const frame = Uint8Array.from(file.subarray(at + 16, at + 16 + kept))
    frames.push({ frame, length: file.readUInt32LE(at + 12), ms })
    at += 16 + kept
  }
  return frames
}

test('frames of both directions are in the file as they were taken', (t) => {
  const { link, path, dump } = capture(t)
  const before = Date.now()
  link.b.send(batchOf(frameOf(60), frameOf(1514)))
  link.a.send(batchOf(frameOf(100)))
  const header = readFileSync(path).subarray(0, 24)
  t.is(header.toString('hex'), 'd4c3b2a10200040000000000000000000000010001000000')
  const frames = read(path)
  t.deepEqual(
    frames.map(({ frame }) => frame),
    [frameOf(60), frameOf(1514), frameOf(100)],
  )
  for (const { ms } of frames) t.true(Math.abs(ms - before) < 10_000)
  dump.close()
  link.b.send(batchOf(frameOf(60)))
  t.is(read(path).length, 3)
})

test('only a direction, and only the beginning of frames', (t) => {
  for (const [queue, length] of [
    ['rx', 60],
    ['tx', 100],
  ] as const) {
    const { link, path } = capture(t, { queue, maxlen: 40 })
    link.b.send(batchOf(frameOf(60)))
    link.a.send(batchOf(frameOf(100)))
    const frames = read(path)
    t.deepEqual(
      frames.map(({ frame, length: whole }) => [frame.length, whole]),
      [[40, length]],
    )
  }
})

test('what the other end does not take is not in the file until it does', (t) => {
  const { link, path } = capture(t)
  const end = link.a.end as NetEnd
  end.room = 1
  const batch = batchOf(frameOf(60), frameOf(70))
  const taken = link.b.send(batch)
  t.is(read(path).length, 1)
  end.room = 9
  link.b.send(batch, taken)
  t.deepEqual(
    read(path).map(({ length }) => length),
    [60, 70],
  )
})

test('a checksum that was left to the other end is put in', (t) => {
  const { link, path } = capture(t)
  const frame = frameOf(81)
  const header = new Uint8Array(12)
  header[0] = VIRTIO_NET_HDR_F_NEEDS_CSUM
  header[6] = 34
  header[8] = 6
  link.b.send(batchOf([header, frame]))
  const [captured] = read(path)
  // What the card left in its place is the sum of the pseudo header.
  const pseudo = (frame[40]! << 8) | frame[41]!
  t.is(sumOf(captured!.frame.subarray(34), pseudo), 0xffff)
  t.deepEqual(captured!.frame.subarray(0, 40), frame.subarray(0, 40))
})

test('objects: what is missing, wrong, in use or gone', (t) => {
  const { dump, path } = capture(t)
  dump.close()
  const nets = new Netdevs({ entropy: new SeededEntropy(1), log() {} })
  t.teardown(() => nets.close())
  const objects = new ObjectRegistry([], new SeededEntropy(1), nets)
  t.teardown(() => objects.close())
  const object: FilterDumpConfig = { type: 'filter-dump', id: 'd', netdev: 'n', file: path }
  t.throws(() => objects.add(object), { code: 'E_NETDEV', message: /no netdev 'n'/ })
  nets.add({ type: 'hubport', id: 'n', hub: 0 })
  t.throws(() => objects.add({ ...object, file: '/nowhere/x' }), { code: 'E_FILE' })
  t.throws(() => objects.add({ ...object, maxlen: 0 }), { code: 'E_CONFIG', message: /maxlen/ })
  objects.add(object)
  objects.remove('d')
  t.throws(() => objects.remove('d'), { message: /not found/ })
  t.is(statSync(path).size, 24)
})

test('the option', (t) => {
  const { config, refusal, printed } = commandLine('-kernel', 'k', '-nographic', '-nodefaults')
  const text = 'filter-dump,id=d,netdev=n,file=/tmp/x,maxlen=99,queue=tx'
  t.deepEqual(config('-object', text).objects, [
    { type: 'filter-dump', id: 'd', netdev: 'n', file: '/tmp/x', maxlen: 99, queue: 'tx' },
  ])
  t.regex(refusal('-object', 'filter-dump,id=d,file=x'), /'netdev' is missing/)
  t.regex(refusal('-object', 'filter-dump,id=d,netdev=n'), /'file' is missing/)
  t.regex(refusal('-object', 'filter-dump,id=d,netdev=n,file=x,maxlen=0'), /'maxlen' expects/)
  t.regex(refusal('-object', 'filter-dump,id=d,netdev=n,file=x,queue=no'), /invalid value of queue/)
  t.regex(printed('-object', 'filter-dump,help'), /maxlen=<uint32>/)
})
