import test from 'ava'

import { VmmError } from '../src/errors.ts'
import { AhciDriver, BASE } from './support/ahci-driver.ts'

test('identity: the ICH9 with six ports', (t) => {
  const driver = new AhciDriver()
  t.is(driver.ahci.fn.configRead(0, 4), 0x2922_8086)
  t.is(driver.ahci.fn.configRead(8, 4), 0x0106_0102)
  t.is(driver.get(0x00) & 0x1f, 5)
  t.is(driver.get(0x0c), 0x3f)
  t.deepEqual(
    [0, 1, 2].map((port) => driver.port(port, 0x24)),
    [0x101, 0xeb14_0101, 0xffff_ffff],
  )
  t.deepEqual(
    [0, 1, 2].map((port) => driver.port(port, 0x28)),
    [0x113, 0x113, 0],
  )
  t.is(driver.port(2, 0x20), 0x7f)
})

test('interrupts are messages once the guest wants them, and none is lost', async (t) => {
  const driver = new AhciDriver()
  const { fn } = driver.ahci
  fn.configWrite(0x84, 4, 0xfee0_1000)
  fn.configWrite(0x8c, 2, 0x0041)
  fn.configWrite(0x82, 2, 1)
  for (const port of [0, 1]) driver.start(port)
  driver.prepare(0, 0, { 2: 0xec }, [[0x8000, 512]])
  await driver.issue(0, 1)
  t.deepEqual(driver.messages, [[0xfee0_1000, 0x41]])
  t.false(driver.interrupt)
  driver.prepare(1, 0, { 2: 0xa1 }, [[0x8000, 512]])
  await driver.issue(1, 1)
  t.is(driver.messages.length, 2, 'another port is another message')
  driver.setPort(0, 0x10, 0xffff_ffff)
  driver.set(0x08, 1)
  t.is(driver.messages.length, 3, 'and so is what is left')
  driver.setPort(1, 0x10, 0xffff_ffff)
  driver.holdsMessages = true
  driver.set(0x08, 2)
  t.is(driver.messages.length, 3)
  driver.prepare(0, 0, { 2: 0xec }, [[0x8000, 512]])
  await driver.issue(0, 1)
  t.is(driver.messages.length, 3)
  const other = new AhciDriver()
  // A machine that is loaded stands.
  other.holdsMessages = true
  other.ahci.fn.load(structuredClone(fn.save()))
  other.ahci.load(structuredClone(driver.ahci.save()))
  t.deepEqual(other.messages, [])
  other.holdsMessages = false
  other.ahci.resume()
  t.deepEqual(other.messages, [[0xfee0_1000, 0x41]], 'what was held back leaves later')
})

test('registers are reached by index and data port', (t) => {
  const driver = new AhciDriver()
  const { pio } = driver.bus
  driver.ahci.fn.configWrite(0x20, 4, 0xd000)
  driver.ahci.fn.configWrite(4, 2, 7)
  pio.write(0xd010, 4, 0x10)
  t.is(pio.read(0xd014, 4), driver.get(0x10))
  pio.write(0xd010, 4, 0x130)
  t.is(pio.read(0xd010, 4), 0x130)
  pio.write(0xd010, 4, 0xffff_ffff)
  t.is(pio.read(0xd010, 4), 0xffc)
  pio.write(0xd010, 4, 0x04)
  pio.write(0xd014, 4, 0)
  t.is(driver.get(0x04), 0x8000_0000)
})

test('a disk is identified, read and written', async (t) => {
  const driver = new AhciDriver()
  driver.start(0)
  driver.prepare(0, 0, { 2: 0xec }, [[0x8000, 512]])
  await driver.issue(0, 1)
  t.is(driver.ram.view(0x8000, 512).getUint32(120, true), 4096)
  t.is(driver.port(0, 0x10) & 2, 2, 'a PIO setup FIS')
  t.is(driver.ram.bytes[0x2000 + 0x20], 0x5f)
  t.is(driver.ram.bytes[0x2000 + 0x2f], 0x50)
  t.true(driver.interrupt)
  driver.setPort(0, 0x10, 2)
  driver.set(0x08, 1)
  t.false(driver.interrupt)
  driver.prepare(0, 3, { 2: 0x25, 4: 9, 7: 0x40, 12: 3 }, [
    [0x7_ff00, 1000],
    [0x9000, 4096],
  ])
  driver.transfer(7, 0x35, 100, 2, 0xa000)
  driver.ram.bytes.fill(0x5a, 0xa000, 0xa400)
  await driver.issue(0, 0x88)
  const bytes = driver.disk.bytes.slice(9 * 512, 12 * 512)
  t.deepEqual(driver.ram.bytes.slice(0x7_ff00, 0x7_ff00 + 1000), bytes.slice(0, 1000))
  t.deepEqual(driver.ram.bytes.slice(0x9000, 0x9000 + 536), bytes.slice(1000))
  t.is(driver.moved(0, 3), 1536)
  t.true(driver.disk.bytes.subarray(100 * 512, 102 * 512).every((byte) => byte === 0x5a))
  t.deepEqual([...driver.received(0).subarray(0, 4)], [0x34, 0x40, 0x50, 0])
  t.true(driver.ram.written.some(({ gpa, len }) => gpa === 0x9000 && len === 536))
})

test('what the host has at hand is there as soon as it is issued', (t) => {
  const driver = new AhciDriver()
  driver.disk.now = true
  driver.start(0)
  driver.transfer(0, 0x25, 1, 1, 0x8000)
  driver.setPort(0, 0x38, 1)
  t.is(driver.port(0, 0x38), 0)
  t.deepEqual(driver.ram.bytes.slice(0x8000, 0x8200), driver.disk.bytes.slice(512, 1024))
})

test('a packet device takes its command from the table', async (t) => {
  const driver = new AhciDriver()
  driver.start(1)
  driver.prepare(1, 0, { 2: 0xa0, 3: 1 }, [[0x8000, 4096]], [0x28, 0, 0, 0, 0, 7, 0, 0, 2])
  await driver.issue(1, 1)
  t.deepEqual(driver.ram.bytes.slice(0x8000, 0x9000), driver.cd.bytes.slice(7 * 2048, 9 * 2048))
  driver.prepare(1, 0, { 2: 0xa0, 5: 8, 6: 0 }, [[0x8000, 8]], [0x25])
  await driver.issue(1, 1)
  t.deepEqual([...driver.ram.bytes.subarray(0x8000, 0x8008)], [0, 0, 0, 63, 0, 0, 8, 0])
  driver.prepare(1, 0, { 2: 0xa0, 3: 1 }, [[0x8000, 4096]], [0x28, 0, 0, 0, 1, 0, 0, 0, 2])
  await driver.issue(1, 1)
  t.is(driver.port(1, 0x20), 0x5441, 'illegal request')
})

test('an error stops the list until the driver has stopped it, too', async (t) => {
  const driver = new AhciDriver()
  driver.start(0)
  driver.transfer(0, 0x25, 5000, 1, 0x8000)
  driver.transfer(1, 0x25, 1, 1, 0x8000)
  await driver.issue(0, 3)
  t.is(driver.port(0, 0x10) & 0x4000_0000, 0x4000_0000)
  t.is(driver.port(0, 0x20), 0x1041)
  t.is(driver.port(0, 0x38), 3)
  t.is((driver.port(0, 0x18) >> 8) & 31, 0, 'the slot that failed')
  driver.stop(0)
  t.is(driver.port(0, 0x38), 0)
  t.is(driver.port(0, 0x18) & 0x8000, 0)
  driver.start(0)
  driver.transfer(1, 0x25, 1, 1, 0x8000)
  await driver.issue(0, 2)
  t.deepEqual(driver.ram.bytes.slice(0x8000, 0x8200), driver.disk.bytes.slice(512, 1024))
})

test('lists, tables and data that lead nowhere are a bus error', async (t) => {
  const cases: ((driver: AhciDriver) => void)[] = [
    (driver) => driver.setPort(0, 0x00, 0xffff_fc00),
    (driver) => driver.setPort(0, 0x04, 0xffff_ffff),
    (driver) => driver.ram.view(0x1000, 16).setUint32(8, 0xffff_ff80, true),
    (driver) => driver.ram.view(0x3080, 16).setUint32(4, 0xffff_ffff, true),
    (driver) => driver.ram.view(0x3080, 16).setUint32(0, 0xf_ff00, true),
  ]
  for (const damage of cases) {
    const driver = new AhciDriver()
    driver.start(0)
    driver.transfer(0, 0x25, 1, 1, 0x8000)
    damage(driver)
    await driver.issue(0, 1)
    t.is(driver.port(0, 0x10) & 0x2000_0000, 0x2000_0000)
  }
  const driver = new AhciDriver()
  driver.start(0)
  driver.prepare(0, 0, { 2: 0x25, 4: 1, 7: 0x40, 12: 2 }, [[0x8000, 512]])
  await driver.issue(0, 1)
  t.is(driver.port(0, 0x10) & 0x4100_0000, 0x4100_0000, 'no room for the second sector')
})

test('what goes to ROM is lost: data, what is received, and how much was moved', async (t) => {
  const driver = new AhciDriver()
  driver.start(0)
  driver.setPort(0, 0x08, 0xf_4000)
  // The list itself may be there.
  driver.prepare(0, 0, { 2: 0x25, 4: 9, 7: 0x40, 12: 2 }, [
    [0xe_fe00, 1000],
    [0x9000, 24],
  ])
  driver.ram.bytes.copyWithin(0xf_8000, 0x1000, 0x1400)
  driver.setPort(0, 0x00, 0xf_8000)
  driver.ram.romAt = 0xf_0000
  const rom = driver.ram.bytes.slice(0xf_0000)
  await driver.issue(0, 1)
  const bytes = driver.disk.bytes.slice(9 * 512, 11 * 512)
  t.deepEqual(driver.ram.bytes.slice(0xe_fe00, 0xf_0000), bytes.slice(0, 512))
  t.deepEqual(driver.ram.bytes.slice(0x9000, 0x9018), bytes.slice(1000))
  t.deepEqual(driver.ram.bytes.slice(0xf_0000), rom)
  t.is(driver.port(0, 0x38), 0, 'it is done')
  t.is(driver.port(0, 0x10) & 0x7000_0000, 0, 'and no error')
})

test('a list that is stopped counts as running until the host is done', async (t) => {
  const driver = new AhciDriver()
  let open: () => void = () => {}
  driver.disk.gate = new Promise((resolve) => (open = resolve))
  driver.start(0)
  driver.transfer(0, 0x25, 1, 1, 0x8000)
  driver.setPort(0, 0x38, 1)
  driver.stop(0)
  t.is(driver.port(0, 0x18) & 0x8000, 0x8000)
  driver.set(0x04, 0x8000_0001)
  t.is(driver.port(0, 0x18) & 0x8000, 0x8000, 'also after a reset')
  open()
  await driver.ahci.quiesce()
  t.is(driver.port(0, 0x18) & 0x8000, 0)
  t.is(driver.port(0, 0x38), 0)
  t.false(driver.interrupt)
})

test('resets: of the link, of the device, and what the driver is told', async (t) => {
  const driver = new AhciDriver()
  driver.start(0)
  driver.setPort(0, 0x2c, 1)
  t.is(driver.port(0, 0x28), 0)
  driver.setPort(0, 0x2c, 0)
  t.is(driver.port(0, 0x28), 0x113)
  t.is(driver.port(0, 0x30), 0x0400_0000)
  t.is(driver.port(0, 0x10) & 0x40, 0x40)
  driver.setPort(0, 0x30, 0x0400_0000)
  t.is(driver.port(0, 0x10) & 0x40, 0)
  driver.prepare(0, 0, { 1: 0, 15: 4 }, [])
  await driver.issue(0, 1)
  driver.prepare(0, 0, { 1: 0, 15: 0 }, [])
  await driver.issue(0, 1)
  t.is(driver.port(0, 0x20), 0x0150)
  t.deepEqual([...driver.received(0).subarray(4, 7)], [1, 0, 0])
})

test('no sequence of accesses makes it throw, and any state is loaded or refused', async (t) => {
  t.timeout(120_000)
  const driver = new AhciDriver()
  let word = 0xa4c1
  const random = (): number => {
    word ^= word << 13
    word ^= word >>> 17
    word ^= word << 5
    return word >>> 0
  }
  for (let i = 0; i < 40_000; i++) {
    const kind = random() % 8
    const register = BASE + (random() % 4 ? 0x100 + (random() & 0xff) : random() & 0xfff)
    if (kind === 0) driver.start(random() & 1)
    else if (kind === 1) driver.ram.bytes[0x1000 + (random() & 0x3fff)] = random()
    else if (kind === 2) {
      const code = [0x25, 0x35, 0xec, 0xa0, 0xef, 0x06, 0xea][random() % 7]!
      const pieces = [[random() & 0xf_ffff, (random() & 0xffff) + 1]] as const
      driver.prepare(random() & 1, random() & 31, { 2: code, 4: random() & 0xff, 12: 1 }, pieces)
    } else if (kind === 3) driver.setPort(random() & 1, 0x38, random())
    else if (kind < 6) t.true(driver.bus.mmio.read(register, 1 << (random() % 3)) >= 0)
    else driver.bus.mmio.write(register, 1 << (random() % 3), random())
    if (random() % 16 === 0) await new Promise((resolve) => setImmediate(resolve))
    if (driver.ram.written.length > 1000) driver.ram.written.length = 0
  }
  await driver.ahci.quiesce()
  const state = structuredClone(driver.ahci.save()) as { ports: Record<string, unknown>[] }
  const other = new AhciDriver()
  other.ahci.load(state)
  t.deepEqual(other.ahci.save(), state)
  for (const ports of [undefined, [], [{ ...state.ports[0], ci: -1 }], 'x', [7]]) {
    const error = t.throws(() => other.ahci.load({ ...state, ports }))
    t.true(error instanceof VmmError && error.code === 'E_STATE')
  }
})
