// Which devices at fixed ports there are without being asked for, as in the QEMU that is installed.
import test from 'ava'

import { planChardevs } from '../src/cli/char-plan.ts'
import { commandLine } from './support/command-line.ts'
import { FakeDevice } from './fixtures/fake-device.ts'
import { plugBoard } from './support/plug-board.ts'
import { hasPeer, startPeer } from './support/qtest.ts'

const compare = hasPeer ? test : test.skip
const { settings } = commandLine('-kernel', 'k', '-display', 'none', '-nodefaults')
/** A register of each that does not read as all ones. */
const PORTS = { com1: 0x3fd, com2: 0x2fd, com3: 0x3ed, lpt: 0x37a, fdc: 0x3f4 } as const

for (const kind of ['pc', 'q35'] as const) {
  compare(`${kind}: ports answer where QEMU's do`, async (t) => {
    for (const args of [
      [],
      ['-serial', 'null'],
      ['-serial', 'none', '-serial', 'null'],
      ['-serial', 'none'],
    ]) {
      const given = settings('-M', kind, ...args)
      const serial = planChardevs(given).serials.map((id) =>
        id === undefined ? undefined : new FakeDevice(),
      )
      const more = { serial, onlyConnectedSerial: true }
      const { board } = await plugBoard(kind === 'pc' ? 'i440fx' : 'q35', [], [], more)
      const peer = startPeer('-M', kind, ...args)
      try {
        for (const [name, port] of Object.entries(PORTS)) {
          const theirs = Number(await peer.ask(`inb ${port}`))
          const what = `${args.join(' ')}: ${name}`
          t.is(board.bus.pio.read(port, 1) === 0xff, theirs === 0xff, what)
        }
      } finally {
        peer.close()
      }
    }
  })
}
