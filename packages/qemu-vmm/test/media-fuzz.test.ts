// A hostile guest at drives whose media the host changes at any moment.
import test from 'ava'

import { FakeDrive } from './support/fake-drive.ts'
import { FloppyDriver } from './support/floppy-driver.ts'
import { IdeDriver } from './support/ide-driver.ts'
import { words } from './support/random.ts'

const STEPS = process.env['LONG'] === undefined ? 40_000 : 2_000_000
const COMMANDS = [0xa0, 0xa0, 0xa0, 0x08, 0xa1, 0xec, 0xe5, 0xef]
const PACKETS = [0x00, 0x03, 0x12, 0x1b, 0x1e, 0x25, 0x28, 0x2b, 0x43, 0x46, 0x4a, 0x51, 0x5a, 0xa8]
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

/** A medium of so many blocks of a CD; reads of some wait, and of some fail. */
function cd(random: () => number): FakeDrive {
  const drive = new FakeDrive((1 + (random() % 64)) * 2048, true)
  drive.now = random() % 2 === 0
  if (random() % 4 === 0) drive.error = new Error('scratched')
  return drive
}

function hostMovesCd({ cdrom }: IdeDriver, random: () => number): void {
  const what = random() % 8
  if (what < 2) cdrom.moveTray(random() % 2 === 0)
  else if (what < 4) cdrom.setMedium(undefined)
  else if (what < 7) cdrom.setMedium(cd(random))
  else cdrom.requestEject(random() % 2 === 0)
}

/** What a guest does to the second channel; undefined for what gives no value. */
function guestAtCd({ bus }: IdeDriver, random: () => number): number | undefined {
  const { pio } = bus
  switch (random() % 8) {
    case 0:
      pio.write(0x177, 1, COMMANDS[random() % COMMANDS.length]!)
      return undefined
    case 1:
      for (let i = 0; i < 6; i++) {
        const low = i === 0 ? PACKETS[random() % PACKETS.length]! : random() & 0x0f
        pio.write(0x170, 2, low | ((random() & 0x0f) << 8))
      }
      return undefined
    case 2:
      pio.write(0xc008 + (random() & 7), 1, random() & 0xff)
      return undefined
    case 3:
      pio.write(0x171 + (random() % 6), 1, random() & 0xff)
      return undefined
    case 4:
      if (random() % 16 === 0) pio.write(0x376, 1, random() & 0xff)
      return pio.read(0x376, 1)
    case 5:
      return pio.read(0x170, 1 << (random() % 3))
    default:
      return pio.read(0x170 + (random() % 8), 1)
  }
}

test('cd: no sequence of the guest and the host makes the drive throw or hang', async (t) => {
  const driver = new IdeDriver()
  const random = words(0xcdcd)
  let moves = 0
  driver.cdrom.onTrayMoved = () => moves++
  for (let i = 0; i < STEPS; i++) {
    if (random() % 16 === 0) hostMovesCd(driver, random)
    const value = guestAtCd(driver, random)
    if (value !== undefined && !(Number.isInteger(value) && value >= 0)) return t.fail(`step ${i}`)
    if (random() % 8 === 0) await turn()
    driver.ram.written.length = 0
    if (random() % 256 === 0) {
      for (const bus of driver.ide.buses) await bus.quiesce()
      const saved = structuredClone(driver.cdrom.save())
      driver.cdrom.load(saved)
      t.deepEqual(driver.cdrom.save(), saved)
    }
  }
  t.true(moves > 0, 'the guest has moved the tray, too')
})

test('floppy: no sequence of the guest and the host makes the controller throw or hang', async (t) => {
  const d = new FloppyDriver()
  const random = words(0xf1f1)
  const sizes = [1440, 2880, 1200, 720, 360, 160]
  const disks = sizes.map((kib) => new FakeDrive(kib << 10, random() % 2 === 0))
  const commands = [0x46, 0x45, 0x4d, 0x4a, 0x0f, 0x07, 0x08, 0x04, 0x13, 0x03, 0xe6, 0xc5]
  d.start()
  for (let i = 0; i < STEPS; i++) {
    if (random() % 32 === 0) d.drive.setMedium(disks[random() % (disks.length + 1)])
    const kind = random() % 12
    if (kind < 3) d.fdc.write(5, 1, commands[random() % commands.length]!)
    else if (kind < 6) d.fdc.write(5, 1, random() % 4 === 0 ? random() & 0xff : random() & 3)
    else if (kind === 6) d.fdc.write(7, 1, random() & 3)
    else if (kind === 7 && random() % 32 === 0) d.fdc.write(2, 1, random() & 0xff)
    else if (kind === 8) d.channel(1 + (random() % 4096), random() % 2 === 0)
    else {
      const value = d.fdc.read(random() & 7)
      if (!(Number.isInteger(value) && value >= 0 && value <= 0xff)) return t.fail(`step ${i}`)
    }
    if (random() % 16 === 0) await d.fdc.quiesce()
    d.ram.written.length = 0
  }
  for (const [i, { bytes }] of disks.entries()) t.is(bytes.length, sizes[i]! << 10)
})
