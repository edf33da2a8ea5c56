import { Link, type NetFeatures, type NetModel, type VirtioDevice, createNet } from 'virtio'
import { FakeDriver, FakeMemory, InterruptCounter, NetEnd } from 'virtio/testing'

export const MAC = Uint8Array.of(0x52, 0x54, 0, 0x12, 0x34, 0x56)
export const bit = (n: number): bigint => 1n << BigInt(n)
export const VERSION_1 = bit(32)
export const [CSUM, GUEST_CSUM, TSO4, MRG, CTRL, RX, VLAN, MQ] = [0, 1, 11, 15, 17, 18, 19, 22].map(
  bit,
) as [bigint, bigint, bigint, bigint, bigint, bigint, bigint, bigint]
export const ALL = 0x1f
export const TX_GPA = 0x2_0000
export const RX_GPA = 0x4_0000

export interface Fixture {
  memory: FakeMemory
  end: NetEnd
  link: Link
  device: VirtioDevice<NetModel>
  driver: FakeDriver
  interrupts: InterruptCounter
  errors: unknown[]
  later: (() => void)[]
}

export interface Wishes {
  features?: bigint
  accepts?: number
  pairs?: number
  enable?: NetFeatures
  hostMtu?: number
}

export function create(wishes: Wishes = {}): Omit<Fixture, 'driver'> {
  const memory = new FakeMemory()
  const end = new NetEnd(wishes.accepts ?? ALL)
  const link = new Link()
  link.a.attach(end)
  const errors: unknown[] = []
  const later: (() => void)[] = []
  const device = createNet({
    memory,
    side: link.b,
    mac: MAC,
    onError: (error) => void errors.push(error),
    later: (work) => void later.push(work),
    queuePairs: wishes.pairs ?? 1,
    ...(wishes.enable === undefined ? {} : { enable: wishes.enable }),
    ...(wishes.hostMtu === undefined ? {} : { hostMtu: wishes.hostMtu }),
  })
  const interrupts = new InterruptCounter()
  device.connect(interrupts)
  return { memory, end, link, device, interrupts, errors, later }
}

export function start(wishes: Wishes = {}): Fixture {
  const parts = create(wishes)
  const driver = FakeDriver.direct(parts.memory, parts.device)
  driver.start(wishes.features === undefined ? {} : { features: wishes.features })
  parts.end.told.length = 0
  return { ...parts, driver }
}

export function frame(length: number, fill: number, to: Uint8Array = MAC): Uint8Array {
  const bytes = new Uint8Array(length).fill(fill)
  bytes.set(to)
  return bytes
}

/** Puts a frame into a transmit queue without a kick. */
export function submit(
  { memory, driver }: Fixture,
  data: Uint8Array,
  options: { at?: number; header?: Uint8Array; queue?: number } = {},
): void {
  const { at = 0, header = new Uint8Array(12), queue = 1 } = options
  const gpa = TX_GPA + 0x1000 * at
  memory.write(gpa, header)
  memory.write(gpa + 0x40, data)
  driver.queue(queue).submit([
    { gpa, length: header.length },
    { gpa: gpa + 0x40, length: data.length },
  ])
}

/** Gives receive buffers, one after another from `RX_GPA`. */
export function give(
  { driver }: Fixture,
  lengths: number[],
  options: { queue?: number; kick?: boolean } = {},
): void {
  const { queue = 0, kick = true } = options
  let gpa = RX_GPA
  for (const length of lengths) {
    driver.queue(queue).submit([{ gpa, length, writable: true }])
    gpa += length
  }
  if (kick) driver.kick(queue)
}

export function command({ memory, driver }: Fixture, queue: number, ...bytes: number[]): number {
  memory.write(0x1_0000, Uint8Array.from(bytes))
  memory.write(0x1_1000, Uint8Array.of(0xff))
  driver.queue(queue).submit([
    { gpa: 0x1_0000, length: bytes.length },
    { gpa: 0x1_1000, length: 1, writable: true },
  ])
  driver.kick(queue)
  driver.queue(queue).takeUsed()
  return memory.read(0x1_1000, 1)[0]!
}
