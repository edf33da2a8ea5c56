// Configuration space after reset, against the QEMU that is installed, if one is.
import test from 'ava'

import { RootPort } from '../src/chipset/pci/root-port.ts'
import { ManualClock } from '../src/machine/clock.ts'
import { IrqLines } from '../src/machine/irq.ts'
import { createMemoryMap } from '../src/machine/memory-map.ts'
import { PcBoard } from '../src/machine/pc.ts'
import { cpuPlaces } from './support/cpu-places.ts'
import { hasPeer, startPeer } from './support/qtest.ts'
import { FlatRam } from './support/ram.ts'

const compare = hasPeer ? test : test.skip
const CONFIG_BYTES = 256
const FUNCTIONS = [
  [0x00, 0],
  [0x01, 0],
  [0x1f, 0],
  [0x1f, 2],
  [0x1f, 3],
] as const

/** What QEMU has in the functions, by its test interface. */
async function peerSpaces(hotplug: boolean): Promise<Uint8Array[]> {
  const how = hotplug ? '' : ',hotplug=off'
  const port = `pcie-root-port,id=rp,chassis=1,slot=5,port=3,addr=1${how}`
  const peer = startPeer('-M', 'q35', '-device', port)
  try {
    const spaces: Uint8Array[] = []
    for (const [slot, fn] of FUNCTIONS) {
      const space = new DataView(new ArrayBuffer(CONFIG_BYTES))
      for (let at = 0; at < CONFIG_BYTES; at += 4) {
        await peer.ask(`outl 0xcf8 ${0x8000_0000 + slot * 0x800 + fn * 0x100 + at}`)
        space.setUint32(at, Number(await peer.ask('inl 0xcfc')), true)
      }
      spaces.push(new Uint8Array(space.buffer))
    }
    return spaces
  } finally {
    peer.close()
  }
}

for (const hotplug of [true, false]) {
  compare(`configuration space after reset is that of QEMU 7.2, hotplug=${hotplug}`, async (t) => {
    const board = new PcBoard({
      kind: 'q35',
      irqs: new IrqLines(() => {}),
      clock: new ManualClock(),
      map: createMemoryMap(64 << 20, 'q35'),
      places: cpuPlaces(1),
      memory: new FlatRam(1 << 20),
      serial: [],
      actions: { reset() {}, powerOff() {}, suspend() {}, wake() {}, clockSet() {} },
    })
    const options = { slot: 5, port: 3, hotplug, sendMessage: () => true, removed() {} }
    const port = new RootPort('port', board.bus, options)
    board.pci.add(port.fn, 1)
    board.addPlugged('port', port)
    board.reset()
    const spaces = await peerSpaces(hotplug)
    for (const [i, [slot, number]] of FUNCTIONS.entries()) {
      const fn = board.pci.function(slot, number)!
      for (let at = 0; at < CONFIG_BYTES; at++) {
        t.is(fn.configRead(at, 1), spaces[i]![at]!, `${fn.name}, byte 0x${at.toString(16)}`)
      }
    }
  })
}
