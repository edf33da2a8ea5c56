// Devices that come and go behind ports of PCI Express by ACPI, as they do on q35 unless told otherwise.
import test from 'ava'

import { ICH9_PCI_HOTPLUG_PORT } from '../src/chipset/pci/acpi-hotplug.ts'
import type { DeviceOption } from '../src/devices/device-type.ts'
import { NATIVE_HOTPLUG, plugBoard, rootPort } from './support/plug-board.ts'
import type { PlugBoard } from './support/plug-board.ts'

const [UP, DOWN, EJECT, REMOVABLE, SELECT] = [0, 4, 8, 12, 16].map(
  (at) => ICH9_PCI_HOTPLUG_PORT + at,
) as [number, number, number, number, number]
const ECAM = 0xb000_0000
const GPE0 = 0x620
const INDEX = ICH9_PCI_HOTPLUG_PORT + 0x14

const rng = (id: string, properties: Record<string, string> = {}): DeviceOption => ({
  driver: 'virtio-rng-pci',
  id,
  properties,
})
const behind = (id: string, slot: number, bus: string): DeviceOption => ({
  driver: 'pcie-root-port',
  id,
  properties: { slot: String(slot), bus },
})

function pio({ board }: PlugBoard): PlugBoard['board']['bus']['pio'] {
  return board.bus.pio
}

function found({ board }: PlugBoard, bus: number, fn = 0): number {
  return board.bus.mmio.read(ECAM + bus * 0x10_0000 + (fn << 12), 4)
}

test('a device is there at once, with power, and the event says where to look', async (t) => {
  const fixture = await plugBoard('q35', [rootPort('p', 1), rootPort('p2', 2)])
  const { board, tree, lines, deleted } = fixture
  const port = pio(fixture)
  port.write(GPE0 + 8, 1, 2)
  port.write(0xb2, 1, 2)
  await tree.add(rng('r', { bus: 'p' }))
  t.is(found(fixture, 1), 0x1044_1af4, 'nobody switches it on')
  t.true(lines.has(9), 'the event')
  t.is(port.read(GPE0, 1) & 2, 2)
  port.write(GPE0, 1, 2)
  t.false(lines.has(9))
  // The port that was made last has the first number.
  port.write(SELECT, 4, 0)
  t.is(port.read(UP, 4), 0)
  port.write(SELECT, 4, 1)
  t.is(port.read(UP, 4), 1)
  t.is(port.read(UP, 4), 0, 'told once')
  t.is(port.read(REMOVABLE, 4), 0xffff_ffff)
  tree.requestRemoval('r')
  t.notThrows(() => tree.requestRemoval('r'), 'the guest may have been asked before it listened')
  t.is(port.read(DOWN, 4), 1)
  port.write(SELECT, 4, 0)
  port.write(EJECT, 4, 1)
  t.deepEqual(deleted, [], 'another port was selected')
  port.write(SELECT, 4, 1)
  port.write(EJECT, 4, 1)
  await tree.left()
  t.deepEqual(deleted, [{ id: 'r', path: '/machine/peripheral/r' }])
  t.is(found(fixture, 1), 0xffff_ffff)
  t.is(board.pci.function(1, 0)!.configRead(0x6c, 4) >>> 16, 0, 'the port itself has said nothing')
})

test('what is behind a port with hotplug=off stays, and nothing comes there', async (t) => {
  const kept = rootPort('p', 1)
  const options = [
    { ...kept, properties: { ...kept.properties, hotplug: 'off' } },
    rootPort('p2', 2),
    rng('r', { bus: 'p' }),
  ]
  const fixture = await plugBoard('q35', options)
  const { board, tree, deleted } = fixture
  board.reset()
  const message = "Bus 'p' does not support hotplugging"
  await t.throwsAsync(tree.add(rng('r2', { bus: 'p', addr: '0.1' })), { message })
  t.throws(() => tree.requestRemoval('r'), { message })
  t.is(board.pci.function(1, 0)!.configRead(0x68, 4) & 0x7f, 0x1b, 'no surprise, no hot-plug')
  t.is(board.pci.function(2, 0)!.configRead(0x68, 4) & 0x7f, 0x7b)
  const port = pio(fixture)
  port.write(SELECT, 4, 0)
  port.write(EJECT, 4, 1)
  t.deepEqual(deleted, [])
  await tree.add(rng('r2', { bus: 'p2' }))
  port.write(SELECT, 4, 0)
  t.is(port.read(UP, 4), 1, 'the other port has the only number')
})

test('an index is one of its own, where ACPI tells of it', async (t) => {
  const index = (value: string, more: object = {}): Record<string, string> => ({
    'acpi-index': value,
    ...more,
  })
  const fixture = await plugBoard('q35', [
    rootPort('p', 1),
    rootPort('p2', 2),
    rng('r', index('7', { bus: 'p' })),
  ])
  const { tree } = fixture
  const refuse = async (properties: Record<string, string>, message: RegExp): Promise<void> =>
    void (await t.throwsAsync(tree.add(rng('r2', { bus: 'p2', ...properties })), { message }))
  await refuse(index('7'), /a PCI device with acpi-index = 7 already exist/)
  await refuse(index('16384'), /acpi-index.*16383/)
  const port = pio(fixture)
  const read = (number: number): number => {
    port.write(SELECT, 4, number)
    port.write(INDEX, 4, 1)
    return port.read(INDEX, 4)
  }
  t.deepEqual([read(0), read(1), read(2)], [0, 7, 0])
  t.is(port.read(INDEX, 4), 0, 'told once')
  await tree.add(rng('r2', index('16383', { bus: 'p2' })))
  t.deepEqual([read(0), read(1)], [16_383, 7])
  const onRoot = [rng('r', index('1', { bus: 'pcie.0' }))]
  await t.throwsAsync(plugBoard('q35', onRoot), {
    message: /ACPI describes no devices of this bus/,
  })
  const fixed = [{ driver: 'pcie-root-port', id: 'x', properties: index('1', { bus: 'p' }) }]
  await t.throwsAsync(plugBoard('q35', [rootPort('p', 1), ...fixed]), {
    message: /acpi-index=1: ACPI describes devices that can be plugged in and out/,
  })
})

test('the root stays as it is, and so do ports', async (t) => {
  const fixture = await plugBoard('q35', [rootPort('p', 1), behind('p2', 2, 'p')])
  const { tree, deleted } = fixture
  await t.throwsAsync(tree.add(rng('r')), {
    message: /^Bus 'pcie\.0' does not support hotplugging/,
  })
  t.throws(() => tree.requestRemoval('p'), { message: /^Bus 'pcie\.0' does not support/ })
  t.throws(() => tree.requestRemoval('p2'), {
    message: "Device 'pcie-root-port' does not support hotplugging",
  })
  const port = pio(fixture)
  for (const bus of [0, 1, 2]) {
    port.write(SELECT, 4, bus)
    for (let slot = 0; slot < 32; slot++) port.write(EJECT, 4, 2 ** slot)
  }
  port.write(SELECT, 4, 0)
  t.is(port.read(REMOVABLE, 4), 0xffff_fffe, 'a port is no device that comes and goes')
  await tree.left()
  t.deepEqual(deleted, [])
  t.deepEqual(
    tree.options().map(({ id }) => id),
    ['p', 'p2'],
  )
})

test('tables number buses as the registers do, and describe slots that can change', async (t) => {
  const plug = [
    rootPort('p', 1),
    rootPort('p2', 2),
    behind('p3', 3, 'p2'),
    rootPort('p4', 4),
    { driver: 'VGA', properties: { bus: 'p4' } },
  ]
  const { board } = await plugBoard('q35', plug)
  const leaf = (number: number, slots: number): object => ({ number, slots, bridges: [] })
  t.deepEqual(board.chipset.acpiHotplug!.describe(), {
    slots: 0,
    bridges: [
      { slot: 1, functionNumber: 0, behind: leaf(3, 1) },
      {
        slot: 2,
        functionNumber: 0,
        behind: {
          number: 1,
          slots: 0,
          bridges: [{ slot: 0, functionNumber: 0, behind: leaf(2, 1) }],
        },
      },
      { slot: 3, functionNumber: 0, behind: leaf(0, 0) },
    ],
  })
})

test('a reset takes out what was to go, and gives power to what has come', async (t) => {
  const fixture = await plugBoard('q35', [rootPort('p', 1), rootPort('p2', 2)])
  const { board, tree, deleted } = fixture
  await tree.add(rng('stays', { bus: 'p' }))
  await tree.add(rng('goes', { bus: 'p2' }))
  board.pci.function(1, 0)!.configWrite(0x6c, 2, 0x0700)
  t.is(found(fixture, 1), 0xffff_ffff, 'a guest may still cut the power')
  tree.requestRemoval('goes')
  board.reset()
  board.applyFirmwareSetup()
  await tree.left()
  t.deepEqual(deleted, [{ id: 'goes', path: '/machine/peripheral/goes' }])
  t.is(found(fixture, 1), 0x1044_1af4)
  t.is(pio(fixture).read(SELECT, 4), 0)
})

test('a state with what is pending at each port loads where the same ports are', async (t) => {
  const ports = [rootPort('p', 1), rootPort('p2', 2)]
  const first = await plugBoard('q35', [...ports, rng('cold', { bus: 'p' })])
  await first.tree.add(rng('late', { bus: 'p2' }))
  first.tree.requestRemoval('cold')
  pio(first).write(SELECT, 4, 1)
  const state = structuredClone(first.board.save())
  const second = await plugBoard('q35', first.tree.options())
  second.board.load(state)
  t.deepEqual(second.board.save(), first.board.save())
  const port = pio(second)
  t.deepEqual([port.read(SELECT, 4), port.read(UP, 4), port.read(DOWN, 4)], [1, 0, 1])
  t.is(found(second, 2), 0x1044_1af4)
  port.write(EJECT, 4, 1)
  port.write(SELECT, 4, 0)
  t.deepEqual([port.read(UP, 4), port.read(DOWN, 4)], [1, 0])
  await second.tree.left()
  t.deepEqual(second.deleted, [{ id: 'cold', path: '/machine/peripheral/cold' }])
  const native = await plugBoard('q35', first.tree.options(), [], NATIVE_HOTPLUG)
  t.throws(() => native.board.load(state), { code: 'E_STATE', message: /pci-hotplug/ })
  const more = await plugBoard('q35', ports)
  t.throws(() => more.board.load(state), { code: 'E_STATE' })
})

test('by their own, ports leave the registers of ACPI out', async (t) => {
  const fixture = await plugBoard('q35', [rootPort('p', 1)], [], NATIVE_HOTPLUG)
  t.is(fixture.board.chipset.acpiHotplug, undefined)
  t.is(pio(fixture).read(UP, 4), 0xffff_ffff)
})
