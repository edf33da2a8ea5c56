// A hostile guest at the registers of hot-plug while the host plugs devices in and takes them out.
import test from 'ava'

import {
  ICH9_PCI_HOTPLUG_PORT,
  PCI_HOTPLUG_PORTS,
  PIIX4_PCI_HOTPLUG_PORT,
} from '../src/chipset/pci/acpi-hotplug.ts'
import type { DeviceOption } from '../src/devices/device-type.ts'
import { VmmError } from '../src/errors.ts'
import { NATIVE_HOTPLUG, plugBoard, rootPort } from './support/plug-board.ts'
import type { PlugBoard } from './support/plug-board.ts'
import { words } from './support/random.ts'

const STEPS = process.env['LONG'] === undefined ? 20_000 : 2_000_000
const ECAM = 0xb000_0000
const IDS = ['a', 'b', 'c', 'd', 'e', 'f']
const KINDS = ['i440fx', 'q35', 'q35 by its ports'] as const
type Kind = (typeof KINDS)[number]
/** What slot control is written with by guests that mean it, and by those that do not. */
const COMMANDS = [0x0100, 0x0200, 0x0600, 0x0700, 0x07c0, 0x0139, 0x0739, 0x0900, 0xffff]

function create(kind: Kind, plug = plugOf(kind)): Promise<PlugBoard> {
  return kind === 'i440fx'
    ? plugBoard(kind, plug)
    : plugBoard('q35', plug, [], kind === 'q35' ? {} : NATIVE_HOTPLUG)
}

function plugOf(kind: Kind): DeviceOption[] {
  return kind === 'i440fx' ? [] : [rootPort('p1', 1), rootPort('p2', 2)]
}

function portOf({ board }: PlugBoard): number {
  return board.kind === 'q35' ? ICH9_PCI_HOTPLUG_PORT : PIIX4_PCI_HOTPLUG_PORT
}

/** What the host does: what it is refused is a `VmmError` and nothing else. */
async function hostStep(
  { tree, board }: PlugBoard,
  kind: Kind,
  random: () => number,
): Promise<void> {
  const id = IDS[random() % IDS.length]!
  const properties: Record<string, string> =
    kind !== 'i440fx' ? { bus: `p${1 + (random() % 2)}` } : {}
  if (random() % 3 === 0)
    properties['addr'] = `${kind !== 'i440fx' ? 0 : random() % 8}.${random() % 3}`
  if (random() % 2 === 0) properties['multifunction'] = 'on'
  try {
    const what = random() % 4
    if (what < 2) tree.requestRemoval(id)
    else if (what === 2) await tree.add({ driver: 'virtio-rng-pci', id, properties })
    else {
      const drive = `d${random() % 3}`
      await tree.add({ driver: 'virtio-blk-pci', id, properties: { ...properties, drive } })
    }
  } catch (error) {
    if (!(error instanceof VmmError) || error.code === 'E_INTERNAL') throw error
  }
  if (random() % 50 === 0) {
    board.reset()
    board.applyFirmwareSetup()
  }
}

/** One access of the guest. */
function guestStep(fixture: PlugBoard, random: () => number): number {
  const { pio, mmio } = fixture.board.bus
  const port = portOf(fixture)
  const size = 1 << (random() % 3)
  switch (random() % 6) {
    case 0:
      pio.write(port + (random() % PCI_HOTPLUG_PORTS), size, random())
      return 0
    case 1:
      return pio.read(port + (random() % PCI_HOTPLUG_PORTS), size)
    case 2:
      pio.write(port + (random() % 2 ? 0x08 : 0x10), 4, random() % 4 ? 2 ** (random() % 32) : 0)
      return 0
    case 3:
      mmio.write(
        ECAM + ((1 + (random() % 2)) << 15) + 0x6c,
        2,
        COMMANDS[random() % COMMANDS.length]!,
      )
      return 0
    case 4:
      // Anything in the ports and what is behind them.
      mmio.write(ECAM + (random() % 4) * 0x10_0000 + (random() % 0x1_8000), size, random())
      return 0
    default:
      return mmio.read(ECAM + (random() % 4) * 0x10_0000 + (random() % 0x1_8000), size)
  }
}

for (const kind of KINDS) {
  test(`no guest of ${kind} makes hot-plug throw, or lose what devices had`, async (t) => {
    const fixture = await create(kind)
    const random = words(0xeeec7)
    for (let i = 0; i < STEPS; i++) {
      if (random() % 8 === 0) await hostStep(fixture, kind, random)
      const value = guestStep(fixture, random)
      if (!Number.isInteger(value) || value < 0) return t.fail(`step ${i} gave ${value}`)
    }
    const { tree, drives, board, events } = fixture
    // A guest that lets go of everything in the end gives everything back.
    for (const bus of [0, 1]) {
      for (let slot = 0; slot < 32; slot++) {
        board.bus.pio.write(portOf(fixture) + 0x10, 4, bus)
        board.bus.pio.write(portOf(fixture) + 0x08, 4, 2 ** slot)
      }
    }
    for (const slot of kind === 'q35 by its ports' ? [1, 2] : []) {
      const port = board.pci.function(slot, 0)!
      for (const word of [0x0100, 0x0700]) port.configWrite(0x6c, 2, word)
      // Functions that no first one has shown are the host's to take.
    }
    for (const id of IDS) {
      try {
        tree.requestRemoval(id)
      } catch (error) {
        t.true(error instanceof VmmError)
      }
    }
    await tree.left()
    t.deepEqual(
      tree.options().map(({ driver }) => driver),
      plugOf(kind).map(({ driver }) => driver),
    )
    t.deepEqual(
      drives.list().filter(({ owner }) => owner !== undefined),
      [],
    )
    t.is(events.size, 0)
  })

  test(`a ${kind} with devices that came and went loads what it saved`, async (t) => {
    for (let seed = 1; seed <= 10; seed++) {
      const first = await create(kind)
      const random = words(seed * 7919)
      for (let i = 0; i < 300; i++) {
        if (random() % 4 === 0) await hostStep(first, kind, random)
        guestStep(first, random)
      }
      await first.tree.left()
      const second = await create(kind, first.tree.options())
      second.board.load(structuredClone(first.board.save()))
      t.deepEqual(second.board.save(), first.board.save(), `seed ${seed}`)
      const again = [words(~seed), words(~seed)] as const
      for (let i = 0; i < 200; i++) {
        const got = guestStep(second, again[1])
        if (guestStep(first, again[0]) !== got) return t.fail(`seed ${seed} step ${i}`)
      }
      await first.tree.left()
      await second.tree.left()
      t.deepEqual(second.board.save(), first.board.save(), `seed ${seed}`)
    }
  })
}
