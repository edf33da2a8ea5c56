// The balloon of a machine: what is asked, given back, and told of.
import test from 'ava'

import { VmmError } from '../src/errors.ts'
import { Management } from '../src/machine/management.ts'
import { plugBoard } from './support/plug-board.ts'
import type { PlugBoard } from './support/plug-board.ts'
import type { DeviceOption } from '../src/devices/device-type.ts'

const MIB = 1 << 20
const PATH = '/machine/peripheral/b'

const option = (properties: Record<string, string> = {}): DeviceOption => ({
  driver: 'virtio-balloon-pci',
  id: 'b',
  properties,
})

async function withBalloon(...plug: DeviceOption[]): Promise<PlugBoard & { manage: Management }> {
  const machine = await plugBoard('i440fx', plug)
  const { board, tree, drives, places } = machine
  return {
    ...machine,
    manage: new Management(64 * MIB, {} as never, {
      board,
      tree,
      drives,
      places,
      objects: {} as never,
      cpuType: '',
    }),
  }
}

test('what is asked is in the configuration, and no more than there is', async (t) => {
  const { manage, board } = await withBalloon(option())
  t.is(manage.balloon(), 64 * MIB)
  const { model } = board.balloon
  for (const [bytes, pages] of [
    [16 * MIB, 12_288],
    [64 * MIB, 0],
    [1, 16_383],
    [2 ** 52, 0],
  ] as const) {
    manage.setBalloon(bytes)
    t.is(model?.wanted, pages, String(bytes))
  }
})

test('there is one at most, and a machine may have none', async (t) => {
  const { manage } = await withBalloon()
  const error = t.throws(() => manage.balloon(), { instanceOf: VmmError })
  t.is(error.code, 'E_NO_BALLOON')
  t.throws(() => manage.setBalloon(1), { message: /No balloon device/ })
  t.is(manage.properties(PATH), undefined)
  const second = { ...option(), id: 'c' }
  await t.throwsAsync(withBalloon(option(), second), { message: /Only one balloon device/ })
  await t.throwsAsync(withBalloon(option({ 'free-page-hint': 'on' })), { message: /not found/ })
})

test('a balloon that is taken out makes room for another', async (t) => {
  const { manage, tree, board } = await withBalloon(option())
  tree.requestRemoval('b')
  board.bus.pio.write(0xae08, 4, 1 << 3)
  await tree.left()
  if (board.balloon.model === undefined) {
    await tree.add(option())
    t.is(manage.balloon(), 64 * MIB)
  } else t.pass('the guest has not let go of it')
})

test('statistics are asked for as often as is wished', async (t) => {
  const { manage, clock } = await withBalloon(option())
  const value = (name: string): unknown =>
    manage.properties(PATH)?.find((property) => property.name === name)?.value
  t.like(value('guest-stats'), {
    stats: { 'stat-free-memory': 2n ** 64n - 1n, 'stat-htlb-pgfail': 2n ** 64n - 1n },
    'last-update': 0,
  })
  const set = (wish: unknown): void =>
    manage.setProperty(PATH, 'guest-stats-polling-interval', wish)
  set(10)
  t.is(value('guest-stats-polling-interval'), 10)
  clock.advance(30e9)
  set(0)
  t.is(value('guest-stats-polling-interval'), 0)
  for (const [wish, message] of [
    [-1, /must be greater than zero/],
    [2 ** 32, /too big/],
    ['1', /expected: integer/],
    [1.5, /expected: integer/],
  ] as const) {
    t.throws(() => set(wish), { message })
  }
  t.throws(() => manage.setProperty(PATH, 'guest-stats', 1), { message: /Insufficient permission/ })
  t.throws(() => manage.setProperty('/nowhere', 'x', 1), { message: /Insufficient permission/ })
})
