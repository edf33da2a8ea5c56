// Devices that come and go while the machine runs: what registers say, what is refused, what a reset and a saved state do.
import test from 'ava'

import { PIIX4_PCI_HOTPLUG_PORT } from '../src/chipset/pci/acpi-hotplug.ts'
import type { DeviceOption } from '../src/devices/device-type.ts'
import { NATIVE_HOTPLUG, plugBoard, rootPort } from './support/plug-board.ts'
import type { PlugBoard } from './support/plug-board.ts'

const [UP, DOWN, EJECT, REMOVABLE, SELECT] = [0, 4, 8, 12, 16].map(
  (at) => PIIX4_PCI_HOTPLUG_PORT + at,
) as [number, number, number, number, number]
const GPE0 = 0xafe0
const ECAM = 0xb000_0000
const FIVE_SECONDS_NS = 5_000_000_000

const rng = (id: string, properties: Record<string, string> = {}): DeviceOption => ({
  driver: 'virtio-rng-pci',
  id,
  properties,
})
const blk = (id: string, drive: string, properties: Record<string, string> = {}): DeviceOption => ({
  driver: 'virtio-blk-pci',
  id,
  properties: { drive, ...properties },
})

/** Lets go of everything that is about to be given back. */
async function settle({ tree }: PlugBoard): Promise<void> {
  await tree.left()
}

/** Slot control, with status in the upper half, of the port in a slot of pcie.0. */
function slotOf(
  { board }: PlugBoard,
  slot: number,
): { get(): number; set(size: number, value: number): void } {
  const at = ECAM + (slot << 15) + 0x6c
  const { mmio } = board.bus
  return { get: () => mmio.read(at, 4), set: (size, value) => mmio.write(at, size, value) }
}

function found({ board }: PlugBoard, bus: number, slot = 0, fn = 0): number {
  return board.bus.mmio.read(ECAM + bus * 0x10_0000 + (slot << 15) + (fn << 12), 4)
}

test('acpi: registers tell once what came, and until it is ejected what is to go', async (t) => {
  const fixture = await plugBoard('i440fx', [rng('r0')])
  const { board, tree, lines, deleted } = fixture
  const { pio } = board.bus
  t.is(pio.read(REMOVABLE, 4), 0xffff_fffc, 'host bridge and PIIX3 stay')
  pio.write(GPE0 + 2, 1, 2)
  pio.write(0xb2, 1, 0xf1)
  t.is(lines.size, 0)
  await tree.add(rng('r1'))
  t.is(pio.read(GPE0, 1), 2)
  t.true(lines.has(9))
  pio.write(GPE0, 1, 2)
  t.is(lines.size, 0)
  t.is(pio.read(UP, 4), 1 << 3)
  t.is(pio.read(UP, 4), 0, 'told once')
  tree.requestRemoval('r1')
  t.true(lines.has(9))
  t.is(pio.read(DOWN, 4), 1 << 3)
  t.is(pio.read(DOWN, 4), 1 << 3)
  t.notThrows(() => tree.requestRemoval('r1'), 'the guest may have been asked before it listened')
  pio.write(SELECT, 4, 7)
  t.deepEqual(
    [UP, DOWN, REMOVABLE, SELECT].map((at) => pio.read(at, 4)),
    [0, 0, 0xffff_ffff, 7],
  )
  pio.write(EJECT, 4, 1 << 3)
  pio.write(SELECT, 4, 300)
  t.deepEqual(
    [UP, DOWN, REMOVABLE, SELECT].map((at) => pio.read(at, 4)),
    [0, 0, 0, 0],
  )
  pio.write(SELECT, 4, 0)
  t.deepEqual(deleted, [], 'another bus was selected')
  pio.write(EJECT, 1, 1 << 3)
  pio.write(EJECT, 4, 0)
  pio.write(EJECT, 4, 0xffff_fff8)
  await settle(fixture)
  t.deepEqual(deleted, [{ id: 'r1', path: '/machine/peripheral/r1' }], 'the lowest bit counts')
  t.is(pio.read(DOWN, 4), 0)
  t.is(board.pci.function(3, 0), undefined)
})

test('acpi: a guest may eject what was not asked for, but nothing of the board', async (t) => {
  const fixture = await plugBoard('i440fx', [rng('r0'), { driver: 'pci-testdev', properties: {} }])
  const { board, deleted } = fixture
  for (let slot = 0; slot < 32; slot++) board.bus.pio.write(EJECT, 4, 2 ** slot)
  await settle(fixture)
  t.deepEqual(deleted, [
    { id: 'r0', path: '/machine/peripheral/r0' },
    { path: '/machine/peripheral-anon/device[0]' },
  ])
  t.deepEqual(
    Array.from(board.pci.functions(), ({ slot, functionNumber }) => `${slot}.${functionNumber}`),
    ['0.0', '1.0', '1.1', '1.3'],
  )
  t.deepEqual(fixture.tree.options(), [])
})

test('acpi: a reset takes out what was to go, and no event is left', async (t) => {
  const fixture = await plugBoard('i440fx')
  const { board, tree, deleted } = fixture
  await tree.add(rng('r1'))
  await tree.add(blk('b1', 'd1'))
  tree.requestRemoval('b1')
  board.reset()
  await settle(fixture)
  t.deepEqual(deleted, [{ id: 'b1', path: '/machine/peripheral/b1' }])
  t.is(board.bus.pio.read(DOWN, 4), 0)
  t.is(board.bus.pio.read(GPE0, 1), 0)
  t.is(board.bus.pio.read(UP, 4), 0x4, 'what came before is told still, as on QEMU')
  await tree.add(blk('b1', 'd1'))
  t.deepEqual(
    tree.options().map(({ id }) => id),
    ['r1', 'b1'],
  )
})

test('pcie: attention button, power, indicator: the sequence of a guest', async (t) => {
  const fixture = await plugBoard('q35', [rootPort('p', 1)], [], NATIVE_HOTPLUG)
  const { board, tree, deleted, messages } = fixture
  const slot = slotOf(fixture, 1)
  t.is(slot.get(), 0x0000_07c0, 'empty and off')
  await tree.add(rng('r', { bus: 'p' }))
  t.is(slot.get(), 0x0049_07c0, 'present, and the button was pressed')
  t.is(found(fixture, 1), 0xffff_ffff, 'without power nothing answers')
  slot.set(2, 0x0100)
  t.is(slot.get(), 0x0059_0100)
  t.is(found(fixture, 1), 0x1044_1af4)
  const statusOnly = (value: number): void =>
    board.bus.mmio.write(ECAM + (1 << 15) + 0x6e, 2, value)
  statusOnly(0x1f)
  t.is(slot.get(), 0x0059_0100, 'one that clears what is not there clears nothing')
  statusOnly(0x19)
  t.is(slot.get(), 0x0040_0100)
  tree.requestRemoval('r')
  t.is(slot.get(), 0x0041_0100)
  t.throws(() => tree.requestRemoval('r'), {
    code: 'E_HOTPLUG',
    message: 'Device r is already in the process of unplug',
  })
  slot.set(2, 0x0200)
  slot.set(2, 0x0600)
  t.is(found(fixture, 1), 0xffff_ffff, 'the power is off, the device still there')
  t.deepEqual(deleted, [])
  slot.set(2, 0x0700)
  await settle(fixture)
  t.deepEqual(deleted, [{ id: 'r', path: '/machine/peripheral/r' }])
  t.is(slot.get(), 0x0019_0700)
  t.deepEqual(messages, [], 'interrupts were never enabled')
  t.is(board.pci.function(1, 0)?.secondary?.bus.function(0, 0), undefined)
})

test('pcie: what is not to be, or not now, is refused as on QEMU', async (t) => {
  const ports = [rootPort('p', 1), rootPort('p2', 2), rng('c', { bus: 'p2' })]
  const fixture = await plugBoard('q35', ports, [], NATIVE_HOTPLUG)
  const { tree, clock, deleted } = fixture
  const slot = slotOf(fixture, 1)
  await t.throwsAsync(tree.add(rng('r')), {
    code: 'E_HOTPLUG',
    message: /^Bus 'pcie\.0' does not support hotplugging/,
  })
  await t.throwsAsync(tree.add(rootPort('q', 9)), { message: /^Bus 'pcie\.0' does not/ })
  await t.throwsAsync(tree.add(rng('r', { bus: 'p9' })), { message: /^Bus 'p9' not found/ })
  await t.throwsAsync(tree.add(rng('r', { bus: 'p', addr: '1' })), { message: /not on this bus/ })
  await t.throwsAsync(tree.add({ driver: 'VGA', properties: { bus: 'p' } }), {
    message: /^Parameter 'driver' expects a pluggable device type/,
  })
  t.throws(() => tree.requestRemoval('p'), { message: /^Bus 'pcie\.0' does not support/ })
  await tree.add(rng('r', { bus: 'p' }))
  tree.requestRemoval('r')
  await settle(fixture)
  t.is(deleted.length, 1, 'the guest never switched it on, and is not asked')
  slot.set(2, 0x0100)
  await tree.add(rng('r', { bus: 'p' }))
  slot.set(2, 0x0200)
  t.throws(() => tree.requestRemoval('r'), { message: /^Hot-unplug failed: guest is busy/ })
  slot.set(2, 0x0900)
  t.throws(() => tree.requestRemoval('r'), { message: /^slot is electromechanically locked/ })
  slot.set(2, 0x0900)
  tree.requestRemoval('r')
  clock.advance(FIVE_SECONDS_NS - 1)
  t.throws(() => tree.requestRemoval('r'), { message: /already in the process/ })
  clock.advance(1)
  t.notThrows(() => tree.requestRemoval('r'))
  fixture.board.reset()
  t.is(
    fixture.board.pci.function(1, 0)!.configRead(0x6c, 4),
    0x0040_01c0,
    'a port forgets on reset, and the device has power',
  )
  t.is(deleted.length, 1)
})

test('pcie: functions beside the first are there when that has come, and go with it', async (t) => {
  const fixture = await plugBoard('q35', [rootPort('p', 1)], [], NATIVE_HOTPLUG)
  const { tree, deleted } = fixture
  const slot = slotOf(fixture, 1)
  slot.set(2, 0x0100)
  slot.set(2, 0x0100)
  await tree.add(rng('m1', { bus: 'p', addr: '0.1' }))
  t.is(slot.get() & 0x0049_0000, 0)
  t.is(found(fixture, 1, 0, 1), 0xffff_ffff)
  await t.throwsAsync(tree.add(rng('m0', { bus: 'p' })), {
    message: /^PCI: 0\.0 indicates single function, but 0\.1 is already populated/,
  })
  await tree.add(rng('m0', { bus: 'p', addr: '0.0', multifunction: 'on' }))
  t.is(slot.get() & 0x0049_0000, 0x0049_0000)
  t.is(found(fixture, 1, 0, 1), 0x1044_1af4)
  await t.throwsAsync(tree.add(rng('m2', { bus: 'p', addr: '0.2' })), {
    message: /^PCI: slot 0 function 0 already occupied by m0, new func m2 cannot be exposed/,
  })
  slot.set(2, 0x0700)
  await settle(fixture)
  t.deepEqual(deleted.map(({ id }) => id).toSorted(), ['m0', 'm1'])
  await tree.add(rng('m1', { bus: 'p', addr: '0.1' }))
  tree.requestRemoval('m1')
  await settle(fixture)
  t.is(deleted.length, 3, 'one that nobody has seen is taken out without asking')
})

test('two devices in one slot, with one id or on one drive are refused, and nothing has changed', async (t) => {
  const fixture = await plugBoard('i440fx', [
    blk('b0', 'd0'),
    { driver: 'pci-testdev', id: 'x', properties: { addr: '5' } },
  ])
  const { tree, drives, events, objects } = fixture
  const before = JSON.stringify([tree.options(), drives.list(), [...events]])
  const refusals: [DeviceOption, RegExp][] = [
    [rng('b0'), /^Duplicate device ID 'b0'/],
    [rng('r', { addr: '2' }), /^PCI: slot 2 function 0 not available for r, in use by b0/],
    [rng('r', { addr: '5.1' }), /^PCI: slot 5 function 0 already occupied by x/],
    [rng('r', { addr: '20' }), /doesn't take value '20'/],
    [rng('r', { rng: 'nothing' }), /there is no object 'nothing'/],
    [rng('r', { foo: '1' }), /^Property 'virtio-rng-pci\.foo' not found/],
    [blk('b1', 'd0'), /^Drive 'd0' is already in use by b0/],
    [blk('b1', 'nothing'), /can't find value 'nothing'/],
    // Taken first, and then there is no place.
    [blk('b1', 'd1', { addr: '2' }), /^PCI: slot 2 function 0 not available/],
    [blk('b1', 'd1', { bootindex: '1' }), /^bootindex=1/],
    [{ driver: 'nothing', properties: {} }, /^'nothing' is not a valid device model name/],
    [{ driver: 'VGA', properties: {} }, /^Parameter 'driver' expects a pluggable device type/],
    [{ driver: 'ich9-ahci', properties: {} }, /^Parameter 'driver' expects a pluggable/],
    [{ driver: 'isa-debug-exit', properties: {} }, /^Bus 'isa\.0' does not support hotplugging/],
    [{ driver: 'ide-hd', properties: { drive: 'd1' } }, /^Bus 'ide\.0' does not support/],
    [{ driver: 'virtserialport', properties: {} }, /does not support hotplugging/],
  ]
  for (const [option, message] of refusals) {
    await t.throwsAsync(tree.add(option), { message })
    t.is(JSON.stringify([tree.options(), drives.list(), [...events]]), before, String(message))
  }
  t.throws(() => tree.requestRemoval('x.0'), { message: /not found/ })
  t.throws(() => tree.requestRemoval('nothing'), {
    code: 'E_DEVICE_NOT_FOUND',
    message: "Device 'nothing' not found",
  })
  objects.add({ type: 'rng-builtin', id: 'o' })
  t.throws(() => objects.add({ type: 'rng-builtin', id: 'o' }), {
    message: /duplicate property 'o'/,
  })
  await tree.add(rng('r', { rng: 'o' }))
  t.throws(() => objects.remove('o'), { message: "object 'o' is in use, can not be deleted" })
  tree.requestRemoval('/machine/peripheral/r')
  fixture.board.bus.pio.write(EJECT, 4, 1 << 3)
  await settle(fixture)
  t.notThrows(() => objects.remove('o'))
  t.throws(() => objects.remove('o'), { message: "object 'o' not found" })
})

test('a drive is free when its device is gone, or goes with it', async (t) => {
  const fixture = await plugBoard('i440fx')
  const { tree, drives, board, deleted } = fixture
  await tree.add(blk('a', 'd0', { addr: '4' }))
  await tree.add(blk('b', 'd3', { addr: '5' }))
  await t.throwsAsync(drives.remove('d0'), { code: 'E_IN_USE' })
  await t.throwsAsync(drives.remove('d9'), { code: 'E_NO_DRIVE' })
  await t.throwsAsync(drives.add({ id: 'd0', file: 'x' }), { message: /^Duplicate nodes/ })
  board.bus.pio.write(EJECT, 4, 1 << 4)
  board.bus.pio.write(EJECT, 4, 1 << 5)
  t.is(deleted.length, 0, 'not before nothing uses it any more')
  await t.throwsAsync(
    tree.add(rng('a')),
    { message: "Duplicate device ID 'a'" },
    'nor is its id free',
  )
  await settle(fixture)
  t.is(deleted.length, 2)
  t.deepEqual(
    drives.list().map(({ id, owner }) => [id, owner]),
    [
      ['d0', undefined],
      ['d1', undefined],
      ['d2', undefined],
    ],
  )
  await drives.remove('d0')
  await drives.add({ id: 'd0', file: 'y' })
})

test('all slots can be filled, and the one too many is refused', async (t) => {
  const fixture = await plugBoard('i440fx')
  const { tree, board } = fixture
  for (let slot = 2; slot < 32; slot++) await tree.add(rng(`r${slot}`))
  await t.throwsAsync(tree.add(rng('more')), {
    message: /^PCI: no slot\/function available for more/,
  })
  t.is(board.bus.pio.read(UP, 4), 0xffff_fffc)
  for (let slot = 2; slot < 32; slot++) board.bus.pio.write(EJECT, 4, 2 ** slot)
  await settle(fixture)
  t.deepEqual(tree.options(), [])
  t.is(fixture.events.size, 0)
})

test('a state with devices that came later loads where they are, and nowhere else', async (t) => {
  for (const [kind, plug, bus] of [
    ['i440fx', [], 'pci.0'],
    ['q35', [rootPort('p', 1)], 'p'],
  ] as const) {
    const more = kind === 'q35' ? NATIVE_HOTPLUG : {}
    const first = await plugBoard(kind, plug, [], more)
    await first.tree.add(blk('late', 'd0', { bus }))
    if (kind === 'q35') slotOf(first, 1).set(2, 0x0100)
    first.tree.requestRemoval('late')
    const state = structuredClone(first.board.save())
    const second = await plugBoard(kind, first.tree.options(), [], more)
    second.board.load(state)
    t.deepEqual(second.board.save(), first.board.save())
    t.deepEqual(second.tree.options(), first.tree.options())
    if (kind === 'q35') {
      t.is(slotOf(second, 1).get(), slotOf(first, 1).get())
      slotOf(second, 1).set(2, 0x0700)
    } else second.board.bus.pio.write(EJECT, 4, second.board.bus.pio.read(DOWN, 4))
    await settle(second)
    t.deepEqual(second.deleted, [{ id: 'late', path: '/machine/peripheral/late' }])
    const without = await plugBoard(kind, plug, [], more)
    t.throws(() => without.board.load(state), { code: 'E_STATE' })
    const other = await plugBoard(kind, [...plug, rng('late', { bus })], [], more)
    t.throws(() => other.board.load(state))
  }
})
