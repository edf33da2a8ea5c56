// Random sequences of hot-plug, of the host and of the guest, against the QEMU that is installed, if one is.
import { rmSync } from 'node:fs'
import test from 'ava'
import type { ExecutionContext } from 'ava'

import { ICH9_PCI_HOTPLUG_PORT, PIIX4_PCI_HOTPLUG_PORT } from '../src/chipset/pci/acpi-hotplug.ts'
import type { DeviceOption } from '../src/devices/device-type.ts'
import { scratchFolder } from './support/images.ts'
import { Peer, hasPeer } from './support/peer.ts'
import { NATIVE_HOTPLUG, plugBoard } from './support/plug-board.ts'
import type { PlugBoard } from './support/plug-board.ts'
import { words } from './support/random.ts'

const STEPS = process.env['LONG'] === undefined ? 600 : 20_000
const compare = hasPeer() ? test.serial : test.skip
const SLOTS = 32
/** What slot control is written with: power, indicators, interrupts, the lock. */
const COMMANDS = [0x0100, 0x0200, 0x0300, 0x0500, 0x0600, 0x0700, 0x0739, 0x07c0, 0x0900, 0x0d00]
const STATUSES = [0x01, 0x08, 0x10, 0x11, 0x19, 0x1f]

/** Ours and the peer, which are to say the same. */
interface Pair {
  ours: PlugBoard
  peer: Peer
  /** Devices that could be there, by the numbers in their ids. */
  ids: Set<string>
}

/** What configuration space has at an address of the first bus, on both. */
async function found({ ours, peer }: Pair, address: number): Promise<[number, number]> {
  const { pio } = ours.board.bus
  pio.write(0xcf8, 4, address)
  await peer.ask(`outl 0xcf8 ${address}`)
  return [pio.read(0xcfc, 4), (await peer.ask('inl 0xcfc')) >>> 0]
}

async function add(pair: Pair, id: string, properties: Record<string, string>): Promise<void> {
  const theirs = await pair.peer.qmp('device_add', { driver: 'virtio-rng-pci', id, ...properties })
  let refusal: string | undefined
  try {
    await pair.ours.tree.add({ driver: 'virtio-rng-pci', id, properties })
    pair.ids.add(id)
  } catch (error) {
    refusal = (error as Error).message
  }
  if ((theirs === undefined) !== (refusal === undefined)) {
    throw new Error(`adding ${id} ${JSON.stringify(properties)}: ${refusal}, and there ${theirs}`)
  }
}

/** Asks for a device to be removed; the peer's clock stands, so that each is asked for once only. */
async function remove(pair: Pair, id: string): Promise<void> {
  pair.ids.delete(id)
  const theirs = await pair.peer.qmp('device_del', { id })
  let refusal: string | undefined
  try {
    pair.ours.tree.requestRemoval(id)
  } catch (error) {
    refusal = (error as Error).message
  }
  if (
    !(refusal ?? '').startsWith(theirs ?? '') ||
    (theirs === undefined) !== (refusal === undefined)
  ) {
    throw new Error(`removing ${id}: ${refusal}, and there ${theirs}`)
  }
}

compare('pc: registers of ACPI hot-plug', async (t) => {
  t.timeout(600_000)
  const folder = scratchFolder()
  const peer = await Peer.start(folder, ['-M', 'pc'])
  try {
    const pair: Pair = { ours: await plugBoard('i440fx'), peer, ids: new Set() }
    const { pio } = pair.ours.board.bus
    const random = words(0x1440)
    for (let i = 0; i < STEPS; i++) {
      const what = random() % 8
      const register = 4 * (random() % 6)
      if (what === 0)
        await add(pair, `r${i}`, random() % 2 ? {} : { addr: (random() % SLOTS).toString(16) })
      else if (what === 1 && pair.ids.size > 0) {
        await remove(pair, [...pair.ids][random() % pair.ids.size]!)
      } else if (what < 5) {
        // Mostly the bus that is there, and slots rather than numbers.
        const value =
          register === 16 ? (random() % 4 === 0 ? random() % 400 : 0) : 2 ** (random() % 32)
        pio.write(PIIX4_PCI_HOTPLUG_PORT + register, 4, value)
        await peer.ask(`outl ${PIIX4_PCI_HOTPLUG_PORT + register} ${value}`)
      } else {
        const theirs = (await peer.ask(`inl ${PIIX4_PCI_HOTPLUG_PORT + register}`)) >>> 0
        t.is(
          pio.read(PIIX4_PCI_HOTPLUG_PORT + register, 4),
          theirs,
          `step ${i}, register ${register}`,
        )
      }
      const slot = random() % SLOTS
      const [mine, theirs] = await found(pair, 0x8000_0000 + slot * 0x800)
      t.is(mine, theirs, `step ${i}, slot ${slot}`)
      for (const id of pair.ids) {
        if (!pair.ours.tree.options().some((option) => option.id === id)) pair.ids.delete(id)
      }
    }
  } finally {
    peer.end()
    rmSync(folder, { recursive: true })
  }
})

for (const [what, isNative] of [
  ['its own', true],
  ['those of ACPI', false],
] as const) {
  compare(`q35: the slot of a root port, and registers: ${what}`, async (t) => {
    t.timeout(600_000)
    const folder = scratchFolder()
    const option = `ICH9-LPC.acpi-pci-hotplug-with-bridge-support=${isNative ? 'off' : 'on'}`
    // The numbers of buses are in the order of what is behind what, and not of the slots.
    const port = (
      id: string,
      slot: number,
      addr: string,
      more: Readonly<Record<string, string>> = {},
    ): DeviceOption => ({
      driver: 'pcie-root-port',
      id,
      properties: { chassis: '1', slot: String(slot), addr, multifunction: 'on', ...more },
    })
    const ports = [
      port('p', 5, '1'),
      port('p2', 6, '3.1'),
      port('p3', 7, '0', { bus: 'p2' }),
      port('p4', 8, '3'),
      port('p5', 9, '2', { hotplug: 'off' }),
    ]
    const stays = { driver: 'virtio-rng-pci', id: 'stays', properties: { bus: 'p5' } }
    const named: Record<string, string> = isNative ? {} : { 'acpi-index': '7' }
    const cold = { driver: 'virtio-rng-pci', id: 'cold', properties: { bus: 'p4', ...named } }
    const options = [...ports, cold, stays].flatMap(({ driver, id, properties }) => [
      '-device',
      [driver, `id=${id}`, ...Object.entries(properties).map(([k, v]) => `${k}=${v}`)].join(','),
    ])
    const peer = await Peer.start(folder, ['-M', 'q35', '-global', option, ...options])
    try {
      const more = isNative ? NATIVE_HOTPLUG : {}
      const ours = await plugBoard('q35', [...ports, cold, stays], [], more)
      const pair: Pair = { ours, peer, ids: new Set(isNative ? ['cold'] : ['cold', 'stays']) }
      await portSteps(t, pair, isNative)
    } finally {
      peer.end()
      rmSync(folder, { recursive: true })
    }
  })
}

/** Random steps at the port in slot 1, and where they are there at the registers of ACPI. */
async function portSteps(t: ExecutionContext, pair: Pair, isNative: boolean): Promise<void> {
  const { ours, peer } = pair
  const { board, tree } = ours
  board.reset()
  const { pio } = board.bus
  const select = async (at: number): Promise<void> => {
    const address = 0x8000_0000 + at
    pio.write(0xcf8, 4, address)
    await peer.ask(`outl 0xcf8 ${address}`)
  }
  const set = async (at: number, value: number): Promise<void> => {
    await select(0x800 + (at & 0xfc))
    pio.write(0xcfc + (at & 3), 2, value)
    await peer.ask(`outw ${0xcfc + (at & 3)} ${value}`)
  }
  await set(0x18, 0x0100)
  await set(0x1a, 0x0001)
  const random = words(0x7035)
  for (let i = 0; i < STEPS; i++) {
    const what = random() % 6
    if (what === 0) {
      const bus = isNative ? 'p' : ['p', 'p', 'p2', 'p3', 'p4', 'p5'][random() % 6]!
      // QEMU does not forget the index of a device that found its slot taken: only one that is in use is given again.
      const isUsed = random() % 4 === 0 && pair.ids.has('cold')
      const index = isNative ? {} : { 'acpi-index': String(isUsed ? 7 : 100 + i) }
      await add(pair, `r${i}`, { bus, addr: `0.${random() % 2}`, ...index })
    } else if (what === 1 && pair.ids.size > 0) {
      await remove(pair, [...pair.ids][random() % pair.ids.size]!)
    } else if (what < 4 || (isNative && what < 5)) {
      await set(0x6c, COMMANDS[random() % COMMANDS.length]!)
    } else if (isNative) await set(0x6e, STATUSES[random() % STATUSES.length]!)
    else await registerStep(t, pair, random, `step ${i}`)
    for (const at of [0x86c, 0x864, 0x1864, 0x186c, 0x196c, 0x1064, 0x1068, 0x106c, 0x1964]) {
      await select(at)
      const theirs = (await peer.ask('inl 0xcfc')) >>> 0
      t.is(pio.read(0xcfc, 4), theirs, `step ${i}, 0x${at.toString(16)}`)
    }
    for (const fn of [0, 1]) {
      const [mine, theirs] = await found(pair, 0x8001_0000 + fn * 0x100)
      t.is(mine, theirs, `step ${i}, function ${fn}`)
    }
    await tree.left()
    for (const id of pair.ids) {
      if (!tree.options().some((option) => option.id === id)) pair.ids.delete(id)
    }
  }
}

/** Selects one of the buses, or none, and reads what happened there, or ejects what is in its slot. */
async function registerStep(
  t: ExecutionContext,
  { ours, peer }: Pair,
  random: () => number,
  step: string,
): Promise<void> {
  const { pio } = ours.board.bus
  const write = async (register: number, value: number): Promise<void> => {
    pio.write(ICH9_PCI_HOTPLUG_PORT + register, 4, value)
    await peer.ask(`outl ${ICH9_PCI_HOTPLUG_PORT + register} ${value}`)
  }
  await write(0x10, random() % 6)
  if (random() % 2 === 0) await write(0x14, random() % 4 === 0 ? 2 : 1)
  for (const register of [0, 4, 0x0c, 0x10, 0x14]) {
    const theirs = (await peer.ask(`inl ${ICH9_PCI_HOTPLUG_PORT + register}`)) >>> 0
    const mine = pio.read(ICH9_PCI_HOTPLUG_PORT + register, 4)
    t.is(mine, theirs, `${step}, register ${register}`)
  }
  if (random() % 3 === 0) await write(0x08, random() % 4 === 0 ? 2 : 1)
}
