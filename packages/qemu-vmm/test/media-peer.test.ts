// What a guest sees of media that the host changes, and the same of the QEMU that is installed, if one is.
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'

import type { FloppyDrive } from '../src/chipset/floppy/drive.ts'
import { FakeDrive } from './support/fake-drive.ts'
import { FloppyDriver } from './support/floppy-driver.ts'
import { ERR, IdeDriver } from './support/ide-driver.ts'
import { scratchFolder } from './support/images.ts'
import { Peer, hasPeer } from './support/peer.ts'
import { words } from './support/random.ts'

const compare = hasPeer() ? test.serial : test.serial.skip
const UNIT_READY = [0]
const START_STOP = 0x1b
const PREVENT = 0x1e
const EVENTS = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]
const CAPACITY = [0x25]

test('cd: a guest sees that the medium was out, that another is in, and once each', async (t) => {
  const driver = new IdeDriver()
  const { cdrom } = driver
  const told = async (cdb: readonly number[]): Promise<number[] | 'fine'> =>
    ((await driver.packet(cdb)) & ERR) === 0 ? 'fine' : await driver.sense()
  cdrom.moveTray(true)
  cdrom.setMedium(undefined)
  t.deepEqual(await told(UNIT_READY), [2, 0x3a, 2], 'the tray is open')
  cdrom.setMedium(new FakeDrive(128 * 2048, true))
  cdrom.moveTray(false)
  t.deepEqual([...(await driver.ask(EVENTS))].slice(4, 6), [2, 2], 'new medium')
  t.deepEqual([...(await driver.ask(EVENTS))].slice(4, 6), [0, 2], 'told once')
  t.deepEqual(await told(UNIT_READY), [2, 0x3a, 1])
  t.deepEqual(await told(UNIT_READY), [6, 0x28, 0])
  t.is(await told(UNIT_READY), 'fine')
  t.deepEqual([...(await driver.ask(CAPACITY))].slice(0, 4), [0, 0, 0, 127])
})

test('cd: a guest that has locked the tray is asked, and opens it itself', async (t) => {
  const driver = new IdeDriver()
  const { cdrom } = driver
  const moves: boolean[] = []
  cdrom.onTrayMoved = (open) => moves.push(open)
  await driver.packet([PREVENT, 0, 0, 0, 1])
  t.true(cdrom.isLocked)
  cdrom.requestEject(false)
  t.deepEqual([...(await driver.ask(EVENTS))].slice(4, 6), [1, 2], 'eject is wanted')
  t.is((await driver.packet([START_STOP, 0, 0, 0, 2])) & ERR, ERR)
  await driver.packet([PREVENT, 0, 0, 0, 0])
  t.is((await driver.packet([START_STOP, 0, 0, 0, 2])) & ERR, 0)
  t.is((await driver.packet([START_STOP, 0, 0, 0, 2])) & ERR, 0)
  t.deepEqual(moves, [true], 'told once')
  await driver.packet([PREVENT, 0, 0, 0, 1])
  cdrom.requestEject(true)
  t.false(cdrom.isLocked, 'by force')
})

test('cd: a read that is under way when the medium goes ends with an error, not with other bytes', async (t) => {
  const driver = new IdeDriver()
  driver.cd.now = false
  await driver.packet([0x28, 0, 0, 0, 0, 0, 0, 0, 32], 2048)
  await driver.readData(2048, 1)
  driver.cdrom.setMedium(new FakeDrive(2048, true))
  let status = driver.alternate(1)
  for (let block = 0; block < 40 && (status & ERR) === 0; block++) {
    if ((status & 8) !== 0) await driver.readData(2048, 1)
    status = await driver.settle(1)
  }
  t.is(status & ERR, ERR)
  t.deepEqual(await driver.sense(), [3, 0x11, 0])
})

test('cd: what the guest has still to be told is part of the state', async (t) => {
  const [from, to] = [new IdeDriver(), new IdeDriver()]
  from.cdrom.moveTray(true)
  from.cdrom.moveTray(false)
  to.cdrom.load(from.cdrom.save())
  t.deepEqual(to.cdrom.save(), from.cdrom.save())
  t.is((await to.packet(UNIT_READY)) & ERR, ERR)
  t.deepEqual(await to.sense(), [2, 0x3a, 1])
  for (const bad of [3, -1, 0.5, undefined]) {
    t.throws(() => to.cdrom.load({ ...from.cdrom.save(), changed: bad }), { code: 'E_STATE' })
  }
})

/** A CD drive at the second channel of a peer, as `IdeDriver` has one. */
class PeerDriver {
  readonly #peer: Peer

  constructor(peer: Peer) {
    this.#peer = peer
  }

  async packet(cdb: readonly number[]): Promise<number> {
    for (const [port, value] of [
      [0x176, 0xa0],
      [0x171, 0],
      [0x174, 0xfe],
      [0x175, 0xff],
      [0x177, 0xa0],
    ] as const) {
      await this.#peer.ask(`outb ${port} ${value}`)
    }
    for (let at = 0; at < 12; at += 2) {
      await this.#peer.ask(`outw 0x170 ${(cdb[at] ?? 0) | ((cdb[at + 1] ?? 0) << 8)}`)
    }
    return await this.#peer.ask('inb 0x177')
  }

  async ask(cdb: readonly number[]): Promise<Uint8Array> {
    await this.packet(cdb)
    const low = await this.#peer.ask('inb 0x174')
    const length = low + 256 * (await this.#peer.ask('inb 0x175'))
    const data = new Uint8Array(length)
    for (let at = 0; at < length; at += 2) {
      const word = await this.#peer.ask('inw 0x170')
      data[at] = word
      data[at + 1] = word >> 8
    }
    return data
  }

  async sense(): Promise<number[]> {
    const data = await this.ask([0x03, 0, 0, 0, 18])
    return [data[2]!, data[12]!]
  }
}

compare(
  'cd: what a guest is told after the host has moved the tray is what QEMU tells',
  async (t) => {
    t.timeout(120_000)
    const folder = scratchFolder()
    const image = join(folder, 'cd')
    writeFileSync(image, new Uint8Array(64 * 2048))
    const node = ['-blockdev', `driver=raw,node-name=n,file.driver=file,file.filename=${image}`]
    const device = ['-device', 'ide-cd,id=cd,drive=n,bus=ide.1,unit=0']
    const peer = await Peer.start(folder, ['-M', 'pc', ...node, ...device])
    try {
      const theirs = new PeerDriver(peer)
      const ours = new IdeDriver()
      const { cdrom, cd } = ours
      const random = words(0xcd)
      let isIn = true
      for (let i = 0; i < 150; i++) {
        switch (random() % 6) {
          case 0: {
            const open = !cdrom.isTrayOpen
            cdrom.moveTray(open)
            await peer.qmp(open ? 'blockdev-open-tray' : 'blockdev-close-tray', { id: 'cd' })
            break
          }
          case 1:
            if (!cdrom.isTrayOpen) break
            cdrom.setMedium(isIn ? undefined : cd)
            if (isIn) await peer.qmp('blockdev-remove-medium', { id: 'cd' })
            else await peer.qmp('blockdev-insert-medium', { id: 'cd', 'node-name': 'n' })
            isIn = !isIn
            break
          case 2: {
            // An open tray tells of the medium that has gone here, which QEMU keeps to itself.
            if (cdrom.isTrayOpen) break
            const [mine, other] = [await ours.ask(EVENTS), await theirs.ask(EVENTS)]
            if (isIn) t.deepEqual([...mine], [...other], `step ${i}: event`)
            break
          }
          default: {
            const cdb = random() % 2 === 0 ? UNIT_READY : [0x28, 0, 0, 0, 0, 0, 0, 0, 0]
            const [mine, other] = [await ours.packet(cdb), await theirs.packet(cdb)]
            t.is(mine & ERR, other & ERR, `step ${i}: command ${cdb[0]}`)
            if ((mine & ERR) === 0) break
            const [key, code] = await ours.sense()
            t.deepEqual([key, code], await theirs.sense(), `step ${i}: sense`)
          }
        }
      }
    } finally {
      peer.end()
      rmSync(folder, { recursive: true })
    }
  },
)

const READ_ID = 0x4a
const SEEK = 0x0f

test('floppy: a change shows until the heads step with a disk in', async (t) => {
  const d = new FloppyDriver()
  d.start()
  const changed = (): boolean => (d.fdc.read(7) & 0x80) !== 0
  const step = (track: number): void => {
    d.command(SEEK, 0, track)
    d.command(8)
    d.result()
  }
  step(1)
  t.false(changed())
  d.drive.setMedium(undefined)
  t.true(changed())
  step(2)
  t.true(changed(), 'there is none')
  d.command(READ_ID, 0)
  t.is((await d.done())[0]! & 0xc0, 0x40)
  d.drive.setMedium(new FakeDrive(720 << 10, true))
  t.true(changed())
  step(3)
  t.false(changed())
  d.fdc.write(7, 1, 2)
  d.command(READ_ID, 0)
  t.is((await d.done())[0]! & 0xc0, 0, 'at the rate of the new disk')
  d.command(4, 0)
  t.is(d.result()[0]! & 0x40, 0x40, 'it is protected')
  t.throws(() => d.drive.setMedium(new FakeDrive(4096)), {
    code: 'E_MEDIUM',
    message: /^an image of 4096 bytes is no floppy disk; there are 1440k, 2880k/,
  })
  t.is(d.drive.medium?.sizeBytes, 720 << 10, 'the one before stays')
})

/** Puts a disk in at both, or takes it out. */
async function change(drive: FloppyDrive, peer: Peer, disk: FakeDrive | undefined): Promise<void> {
  drive.setMedium(disk)
  await peer.qmp('blockdev-remove-medium', { id: 'f' })
  if (disk !== undefined) {
    await peer.qmp('blockdev-insert-medium', {
      id: 'f',
      'node-name': `n${disk.bytes.length >> 10}`,
    })
  }
}

compare('floppy: the changed line and what is read of a disk are those of QEMU', async (t) => {
  t.timeout(120_000)
  const folder = scratchFolder()
  const disks = [1440, 720].map((kib) => new FakeDrive(kib << 10))
  const nodes = disks.flatMap(({ bytes }) => {
    const kib = bytes.length >> 10
    const image = join(folder, `disk${kib}`)
    writeFileSync(image, bytes)
    return ['-blockdev', `driver=raw,node-name=n${kib},file.driver=file,file.filename=${image}`]
  })
  const device = ['-device', 'floppy,id=f,drive=n1440']
  const peer = await Peer.start(folder, ['-M', 'pc', ...nodes, ...device])
  try {
    const d = new FloppyDriver()
    const out = async (offset: number, value: number): Promise<void> => {
      d.fdc.write(offset, 1, value)
      await peer.ask(`outb ${0x3f0 + offset} ${value}`)
    }
    const same = async (offset: number, what: string): Promise<number> => {
      const value = d.fdc.read(offset)
      t.is(value, await peer.ask(`inb ${0x3f0 + offset}`), what)
      return value
    }
    const command = async (what: string, ...values: number[]): Promise<void> => {
      for (const value of values) await out(5, value)
      await d.fdc.quiesce()
      for (let left = 16; left > 0 && (d.fdc.read(4) & 0xd0) === 0xd0; left--) {
        await same(5, `${what}: result ${left}`)
      }
    }
    d.fdc.reset()
    await out(2, 0)
    await out(2, 0x1c)
    for (let unit = 0; unit < 4; unit++) await command('reset', 8)
    const random = words(0xf10)
    let disk: FakeDrive | undefined = disks[0]
    for (let i = 0; i < 120; i++) {
      const what = random() % 5
      if (what === 0) {
        disk = disk === undefined ? disks[random() % 2] : undefined
        await change(d.drive, peer, disk)
      } else if (what === 1) {
        await command(`step ${i}: seek`, SEEK, 0, random() % 3)
        await command(`step ${i}: sense`, 8)
      } else if (what === 2) await command(`step ${i}: drive`, 4, 0)
      else if (what === 3) await out(7, [0, 2][random() % 2]!)
      await same(7, `step ${i}: changed`)
      await same(4, `step ${i}: status`)
    }
  } finally {
    peer.end()
    rmSync(folder, { recursive: true })
  }
})
