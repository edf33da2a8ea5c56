// A network in user mode that begins with the guest's first frame.
import test from 'ava'
import { Link } from 'virtio'
import { NetEnd, batchOf } from 'virtio/testing'
import { LazyUserNet } from '../src/net/user/lazy-net.ts'
import { parseUserOptions } from '../src/net/user/options.ts'
import { frameOf } from './support/e1000-driver.ts'

function question(): Uint8Array {
  const arp = frameOf(42, new Uint8Array(6).fill(0xff), 0x0806)
  arp.set(
    [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2],
    14,
  )
  return arp
}

test('it is there with the first frame, and answers that one already', (t) => {
  const link = new Link()
  let clocks = 0
  const net = new LazyUserNet(parseUserOptions('n', []), link.a, {
    nowUs: () => ++clocks,
    seed: 1,
    report: (message) => t.fail(message),
  })
  const card = new NetEnd()
  link.b.attach(card)
  t.is(link.b.peerAccepts, 7)
  t.is(clocks, 0)
  link.b.send(batchOf(question()))
  t.true(clocks > 0)
  t.is(card.got.length, 1)
  t.is(link.b.peerAccepts, 7)
  net.close()
  const batch = batchOf(question())
  t.is(link.b.send(batch), batch.used)
  t.is(card.got.length, 1)
  t.is(link.a.end, undefined)
})

test('the first frame is not lost when its sender offers it again at every chance', (t) => {
  const link = new Link()
  const net = new LazyUserNet(parseUserOptions('n', []), link.a, {
    nowUs: () => 1,
    seed: 1,
    report: (message) => t.fail(message),
  })
  const batch = batchOf(question())
  let isPending = true
  // As the card of VirtIO does: what is taken is gone from its batch.
  const card = new (class extends NetEnd {
    override resume(): void {
      if (!isPending || link.b.send(batch) < batch.used) return
      isPending = false
      batch.clear()
    }
  })()
  link.b.attach(card)
  card.resume()
  t.false(isPending)
  t.is(card.got.length, 1)
  net.close()
})

test('one that nobody uses leaves nothing behind, and one that cannot be is said once', (t) => {
  const said: string[] = []
  const host = { nowUs: () => 1, seed: 1, report: (message: string) => void said.push(message) }
  const unused = new Link()
  new LazyUserNet(parseUserOptions('n', []), unused.a, host).close()
  t.is(unused.a.end, undefined)
  const config = parseUserOptions('m', [])
  const odd = new Link()
  // Options cannot say this.
  const ipv4 = { ...config.ipv4!, net: 'nowhere' }
  const broken = new LazyUserNet({ ...config, ipv4 }, odd.a, host)
  const batch = batchOf(question())
  t.is(odd.b.send(batch), batch.used)
  t.is(odd.b.send(batch), batch.used)
  t.is(said.length, 1)
  t.regex(said[0]!, /the network m cannot begin: /)
  broken.close()
})
