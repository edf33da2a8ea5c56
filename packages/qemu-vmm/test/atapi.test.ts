import test from 'ava'

import { DRQ, ERR, IdeDriver } from './support/ide-driver.ts'

const SECTOR = 2048

test('identify: a removable CD drive of QEMU', async (t) => {
  const driver = new IdeDriver()
  driver.out(6, 0xa0, 1)
  driver.out(7, 0xec, 1)
  t.is(driver.in(7, 1) & ERR, ERR)
  t.deepEqual([driver.in(4, 1), driver.in(5, 1)], [0x14, 0xeb])
  driver.out(7, 0xa1, 1)
  const data = await driver.readData(512, 1)
  t.is(data[0]! | (data[1]! << 8), 0x85c0)
  t.is(
    Array.from({ length: 12 }, (_, i) => String.fromCharCode(data[54 + (i ^ 1)]!)).join(''),
    'QEMU DVD-ROM',
  )
})

test('packets: what there is of a medium', async (t) => {
  const driver = new IdeDriver()
  t.is((await driver.packet([0])) & ERR, 0)
  t.is(driver.in(2, 1), 3, 'complete')
  const inquiry = Buffer.from(await driver.ask([0x12, 0, 0, 0, 36])).toString('latin1')
  t.is(inquiry.slice(8), 'QEMU    QEMU DVD-ROM    2.5+')
  t.deepEqual([...(await driver.ask([0x25]))], [0, 0, 0, 63, 0, 0, 8, 0])
  t.deepEqual(
    [...(await driver.ask([0x43, 0, 0, 0, 0, 0, 1, 0, 20]))],
    [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0, 64],
  )
  t.deepEqual(
    [...(await driver.ask([0x43, 2, 0, 0, 0, 0, 0xaa, 0, 12]))].slice(4),
    [0, 0x14, 0xaa, 0, 0, 0, 2, 64],
  )
  t.deepEqual([...(await driver.ask([0x46, 0, 0, 0, 0, 0, 0, 0, 8]))].slice(6), [0, 8])
  t.deepEqual([...(await driver.ask([0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]))], [0, 4, 4, 16, 0, 2, 0, 0])
  const mode = await driver.ask([0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 28])
  t.deepEqual(Array.from(mode.subarray(0, 10)), [0, 26, 1, 0, 0, 0, 0, 0, 0x2a, 0x12])
})

test('packets: READ through the data port keeps to the byte count', async (t) => {
  for (const [limit, interrupts] of [
    [0xfffe, 1],
    [2048, 3],
    [4096, 2],
    [1000, 9],
  ] as const) {
    const driver = new IdeDriver()
    const before = driver.irqs[1].edges
    await driver.packet([0x28, 0, 0, 0, 0, 5, 0, 0, 3], limit)
    t.is(driver.in(2, 1), 2, 'to the host')
    const data = await driver.readData(3 * SECTOR, 1)
    t.deepEqual(data, driver.cd.bytes.slice(5 * SECTOR, 8 * SECTOR))
    t.is(driver.in(2, 1), 3)
    t.is(driver.irqs[1].edges - before, interrupts + 1, `limit ${limit}`)
  }
})

test('packets: READ by DMA', async (t) => {
  const driver = new IdeDriver()
  await driver.packet([0xa8, 0, 0, 0, 0, 1, 0, 0, 0, 4], 0, true)
  driver.startDma([[0x2_0000, 4 * SECTOR]], 1)
  t.is((await driver.settle(1)) & (ERR | DRQ), 0)
  t.deepEqual(
    driver.ram.bytes.slice(0x2_0000, 0x2_0000 + 4 * SECTOR),
    driver.cd.bytes.slice(SECTOR, 5 * SECTOR),
  )
  await driver.packet([0x12, 0, 0, 0, 36], 0, true)
  driver.startDma([[0x3000, 36]], 1)
  t.is((await driver.settle(1)) & ERR, 0)
  t.is(driver.ram.bytes[0x3000], 5)
})

test('packets: errors have their sense', async (t) => {
  const driver = new IdeDriver()
  t.is((await driver.packet([0x28, 0, 0, 0, 0, 63, 0, 0, 2])) & ERR, ERR)
  t.is(driver.in(1, 1), 0x54)
  t.deepEqual(await driver.sense(), [5, 0x21, 0])
  t.deepEqual(await driver.sense(), [0, 0, 0], 'told once')
  t.is((await driver.packet([0x2a])) & ERR, ERR)
  t.deepEqual(await driver.sense(), [5, 0x20, 0])
  t.is((await driver.packet([0xa8, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])) & ERR, ERR)
  t.is((await driver.packet([0x5a, 0, 0x17, 0, 0, 0, 0, 0, 8])) & ERR, ERR)
  t.deepEqual(await driver.sense(), [5, 0x24, 0])
  t.is((await driver.packet([0x28, 0, 0, 0, 0, 0, 0, 0, 1], 0)) & ERR, ERR, 'no byte count')
  driver.cd.error = new Error('broken')
  t.is((await driver.packet([0x28, 0, 0, 0, 0, 0, 0, 0, 1])) & ERR, ERR)
  t.deepEqual(await driver.sense(), [3, 0x11, 0])
})

test('tray: locked, opened and closed, and the guest is told', async (t) => {
  const driver = new IdeDriver()
  await driver.packet([0x1e, 0, 0, 0, 1])
  t.is((await driver.packet([0x1b, 0, 0, 0, 2])) & ERR, ERR)
  t.deepEqual(await driver.sense(), [5, 0x53, 2])
  await driver.packet([0x1e, 0, 0, 0, 0])
  t.is((await driver.packet([0x1b, 0, 0, 0, 2])) & ERR, 0)
  t.is((await driver.packet([0])) & ERR, ERR)
  t.deepEqual(await driver.sense(), [2, 0x3a, 2])
  t.is((await driver.packet([0x1b, 0, 0, 0, 3])) & ERR, 0)
  t.deepEqual([...(await driver.ask([0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]))].slice(4, 6), [2, 2])
  t.is((await driver.packet([0])) & ERR, ERR, 'unit attention')
  t.deepEqual(await driver.sense(), [6, 0x28, 0])
  t.is((await driver.packet([0])) & ERR, 0)
})

test('an empty drive has no medium', async (t) => {
  const driver = new IdeDriver(64, 0)
  for (const command of [0x00, 0x25, 0x43]) {
    t.is((await driver.packet([command])) & ERR, ERR)
    t.deepEqual(await driver.sense(), [2, 0x3a, 1])
  }
})

test('DEVICE RESET works while the drive wants data', async (t) => {
  const driver = new IdeDriver()
  driver.out(7, 0xa0, 1)
  t.is(driver.alternate(1) & DRQ, DRQ)
  driver.out(7, 0x08, 1)
  t.is(driver.in(7, 1), 0)
  t.deepEqual([driver.in(4, 1), driver.in(5, 1)], [0x14, 0xeb])
  t.is((await driver.packet([0])) & ERR, 0)
})
