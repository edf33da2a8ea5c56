import { writeSync } from 'node:fs'

import test from 'ava'
import { featureBit, VIRTIO_CONFIG_S_NEEDS_RESET, VIRTIO_F_EVENT_IDX } from 'virtio'
import { Random, hostileQueue } from 'virtio/testing'

import { type CardMachine, RAM_BYTES, cardMachine } from './support/lent-card.ts'
import { ADDRESS, HOST, MAC, ROUTER, checksum, ipv4, udp, word } from './support/net-guest.ts'

const TX_GPA = 0x2_0000
const TX_SLOT = 0x1000
const RX_GPA = 0x8_0000
const TABLE_GPA = 0x1_0000
const MRG_RXBUF = 15

/** Something must keep the process alive while a test waits for the network, which does not. */
const alive = setInterval(() => {}, 1000)
test.after.always(() => clearInterval(alive))

/** An echo request to the router, with so many bytes of data. */
function echo(sequence: number, bytes: number): number[] {
  const data = Array.from({ length: bytes }, (_, i) => (i * 7 + sequence) & 0xff)
  const message = [8, 0, 0, 0, 1, 2, ...word(sequence & 0xffff), ...data]
  message.splice(2, 2, ...word(checksum(message)))
  return ipv4(1, HOST, message)
}

function arp(): number[] {
  const request = [0, 1, 8, 0, 6, 4, 0, 1, ...MAC, ...ADDRESS, 0, 0, 0, 0, 0, 0, ...HOST]
  return [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, ...MAC, 8, 6, ...request]
}

/** A request for an address, which is answered to everybody. */
function discover(): number[] {
  const lead = [1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0, ...Array<number>(16).fill(0), ...MAC]
  const dhcp = [...lead, ...Array<number>(202).fill(0), 99, 130, 83, 99, 53, 1, 1, 255]
  const frame = udp([255, 255, 255, 255], 68, 67, dhcp, [0, 0, 0, 0])
  return [...Array<number>(6).fill(0xff), ...frame.slice(6)]
}

function anyFrame(random: Random): number[] {
  const kind = random.below(8)
  if (kind === 0) return arp()
  if (kind === 1) return discover()
  if (kind === 2) return Array.from({ length: random.below(200) }, () => random.below(256))
  if (kind === 3) return [...ROUTER, ...MAC, 0x81, 0, 0, 1, 8, 0, 1, 2, 3, 4]
  return echo(random.word(), random.below(random.below(4) ? 100 : 3000))
}

/** Puts a frame into the transmit queue, in one to three pieces, and sometimes by an indirect table. */
function submit(machine: CardMachine, random: Random, slot: number): void {
  const header = new Uint8Array(12)
  if (random.below(8) === 0) header.set([random.below(3), random.pick([0, 1, 3, 4, 0x81, 9])])
  if (random.below(8) === 0) header.set(word(random.below(100)), random.pick([4, 6, 8, 10]))
  const bytes = Uint8Array.from([...header, ...anyFrame(random)])
  const gpa = TX_GPA + TX_SLOT * slot
  machine.memory.write(gpa, bytes)
  const cuts = [0, ...Array.from({ length: random.below(3) }, () => random.below(bytes.length))]
  const places = [...cuts, bytes.length].toSorted((a, b) => a - b)
  const buffers = places
    .slice(1)
    .map((end, i) => ({ gpa: gpa + places[i]!, length: end - places[i]! }))
    .filter(({ length }) => length > 0 || random.below(8) === 0)
  if (buffers.length === 0) buffers.push({ gpa, length: 12 })
  const indirect = random.below(3) === 0 ? TABLE_GPA + 0x100 * slot : undefined
  machine.driver.queue(1).submit(buffers, indirect)
}

/** What a random but correct driver does, and what it finds after each of its turns. */
function play(machine: CardMachine, seed: number, eventIdx: boolean, mergeable: boolean): string[] {
  const random = new Random(seed)
  const { driver, device, memory } = machine
  let features = device.offeredFeatures
  if (!eventIdx) features &= ~featureBit(VIRTIO_F_EVENT_IDX)
  if (!mergeable) features &= ~featureBit(MRG_RXBUF)
  driver.start({ features })
  const [rx, tx] = [driver.queue(0), driver.queue(1)]
  const seen: string[] = []
  for (let turn = 0; turn < 60; turn++) {
    for (let i = random.below(12); i > 0 && rx.freeDescriptors > 2; i--) {
      const gpa = RX_GPA + 0x1000 * random.below(64)
      const length = mergeable ? random.pick([60, 100, 500, 1600]) : random.pick([100, 1600, 4000])
      const first = { gpa, length: 12, writable: true }
      const rest = { gpa: gpa + 12, length, writable: true }
      rx.submit(random.below(2) ? [first, rest] : [rest])
    }
    machine.kick(0)
    for (let slot = 0; slot < random.below(6) && tx.freeDescriptors > 4; slot++) {
      submit(machine, random, slot)
    }
    if (eventIdx) rx.setUsedEvent((rx.usedIdx + random.below(4)) & 0xffff)
    else rx.setInterrupts(random.below(4) > 0)
    machine.kick(1)
    machine.settle()
    if (random.below(4) === 0) device.yieldRings()
    const used = [rx, tx].map((queue) => queue.takeUsed())
    seen.push(JSON.stringify({ turn, used, status: device.status }))
  }
  device.yieldRings()
  machine.settle()
  const { txErrors, rxDropped } = device.model
  const { a, b } = machine.link
  seen.push(JSON.stringify({ txErrors, rxDropped, a: a.counters, b: b.counters }))
  seen.push(Buffer.from(memory.read(0, RAM_BYTES)).toString('base64'))
  return seen
}

for (const eventIdx of [true, false]) {
  for (const mergeable of [true, false]) {
    const what = `${eventIdx ? 'with' : 'without'} EVENT_IDX and ${mergeable ? 'with' : 'without'}`
    test(`lent queues do what the device's own do, ${what} mergeable buffers`, async (t) => {
      let loans = 0
      for (let seed = 1; seed <= 8; seed++) {
        await using own = cardMachine(false)
        await using lent = cardMachine(true)
        const expected = play(own, seed, eventIdx, mergeable)
        const found = play(lent, seed, eventIdx, mergeable)
        const at = found.findIndex((text, i) => text !== expected[i])
        t.is(found[at]?.slice(0, 2000), expected[at]?.slice(0, 2000), `seed ${seed}, at ${at}`)
        t.deepEqual(lent.errors, [])
        t.is(own.counts.loans, 0)
        loans += lent.counts.loans
      }
      t.true(loans > 100, `there were ${loans} loans`)
    })
  }
}

test('a hostile driver of lent queues ends its own card at most', async (t) => {
  for (let seed = 1; seed <= 40; seed++) {
    await using machine = cardMachine(true)
    const { driver, device, memory } = machine
    const random = new Random(seed)
    for (let life = 0; life < 4; life++) {
      driver.start()
      machine.settle()
      for (let turn = 0; turn < 30; turn++) {
        for (const index of [0, 1]) hostileQueue(random, memory, driver.queue(index), RAM_BYTES)
        submit(machine, random, random.below(8))
        device.notify(random.below(4))
        device.notify(1)
        machine.settle()
      }
    }
    memory.write(0, new Uint8Array(RAM_BYTES))
    driver.start()
    driver.queue(0).submit([{ gpa: RX_GPA, length: 1600, writable: true }])
    driver.queue(0).submit([{ gpa: RX_GPA + 1600, length: 1600, writable: true }])
    memory.write(TX_GPA, Uint8Array.from([...Array<number>(12).fill(0), ...echo(1, 10)]))
    driver.queue(1).submit([{ gpa: TX_GPA, length: 12 + echo(1, 10).length }])
    device.notify(1)
    machine.settle()
    t.is(device.status & VIRTIO_CONFIG_S_NEEDS_RESET, 0)
    t.is(driver.queue(0).takeUsed().length, 1, `seed ${seed}`)
  }
})

test('kicks and answers of the host need no JavaScript of the device', async (t) => {
  await using machine = cardMachine(true)
  const { driver, device, vm } = machine
  driver.start()
  machine.settle()
  t.true(machine.lent)
  const { loans } = machine.counts
  for (let i = 0; i < 8; i++) {
    driver.queue(0).submit([{ gpa: RX_GPA + 1600 * i, length: 1600, writable: true }])
  }
  vm.memory.write(TX_GPA, Uint8Array.from([...Array<number>(12).fill(0), ...echo(1, 10)]))
  driver.queue(1).submit([{ gpa: TX_GPA, length: 12 + echo(1, 10).length }])
  // The guest writes the register: without a vCPU, the eventfd is signalled as the engine would.
  writeSync(machine.kickFds[1]!, new BigUint64Array([1n]))
  while (driver.queue(0).takeUsed().length === 0) await new Promise((go) => setTimeout(go, 1))
  t.is(machine.counts.interrupts, 0)
  t.is(machine.counts.loans, loans, 'they were not given back')
  device.yieldRings()
  t.is(machine.counts.kicks, 1)
  t.is(machine.link.b.counters.frames, 1)
})

test('queues come back before anything changes that who borrowed them knows', async (t) => {
  const changes: Record<string, (machine: CardMachine) => void> = {
    'the link goes down': ({ link }) => link.setUp(false),
    'somebody observes the link': ({ link }) => void link.observe(() => {}),
    'the machine stands': ({ device }) => device.model.pause(true),
    'the device is reset': ({ device }) => device.writeStatus(0),
    'the device fails': ({ device }) => device.fail(new Error('a test')),
    'its state is saved': ({ device }) => void device.save(),
    'the network goes': ({ net }) => net.close(),
    'a command comes': ({ device }) => device.notify(2),
  }
  for (const [what, change] of Object.entries(changes)) {
    await using machine = cardMachine(true)
    machine.driver.start()
    machine.settle()
    t.true(machine.lent, what)
    change(machine)
    t.false(machine.lent, what)
  }
})

test('a network that does not serve queues leaves kicks where they are heard', async (t) => {
  await using machine = cardMachine(true, false)
  machine.driver.start()
  machine.kick(1)
  machine.settle()
  t.is(machine.counts.loans, 0, 'no kick was directed to anybody else')
})
