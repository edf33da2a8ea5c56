import { SeededEntropy } from '../../src/machine/entropy.ts'
import { setUpBoard } from '../../src/machine/board-setup.ts'
import type { MachineConfig } from '../../src/machine/config.ts'
import { CpuPlaces } from '../../src/machine/cpu-places.ts'
import { ManualClock } from '../../src/machine/clock.ts'
import type { DeletedDevice, DeviceTree } from '../../src/machine/device-tree.ts'
import { Drives } from '../../src/machine/drives.ts'
import { IoEvents } from '../../src/machine/io-events.ts'
import { IrqLines } from '../../src/machine/irq.ts'
import type { BoardKind } from '../../src/machine/machine-type.ts'
import { createMemoryMap } from '../../src/machine/memory-map.ts'
import type { PcBoard } from '../../src/machine/pc.ts'
import { resolveTopology } from '../../src/machine/topology.ts'
import type { DeviceOption } from '../../src/devices/device-type.ts'
import { defaultMac } from '../../src/devices/mac-address.ts'
import type { NetdevConfig } from '../../src/net/config.ts'
import { Netdevs } from '../../src/net/netdevs.ts'
import { ObjectRegistry } from '../../src/objects/registry.ts'
import { FakeDrive } from './fake-drive.ts'
import { FlatRam } from './ram.ts'
import { FakeVideoMemory } from './vga-fixture.ts'

/** What the machine around the devices knows of them. */
export interface PlugBoard {
  board: PcBoard
  tree: DeviceTree
  clock: ManualClock
  drives: Drives
  places: CpuPlaces
  objects: ObjectRegistry
  netdevs: Netdevs
  deleted: DeletedDevice[]
  /** Interrupts that are high. */
  lines: Set<number>
  messages: number[]
  /** What was logged. */
  said: string[]
  /** How many pages the balloon had, each time that this has changed. */
  balloons: number[]
  /** ioeventfds that are in place. */
  events: Set<number>
}

/** A board after firmware, with drives `d0` to `d3`, the devices of `plug` and what they are connected to. */
export async function plugBoard(
  kind: BoardKind,
  plug: readonly DeviceOption[] = [],
  networks: readonly NetdevConfig[] = [],
  more: Partial<MachineConfig> = {},
): Promise<PlugBoard> {
  const clock = new ManualClock()
  const lines = new Set<number>()
  const messages: number[] = []
  const events = new Set<number>()
  const deleted: DeletedDevice[] = []
  const balloons: number[] = []
  const said: string[] = []
  let anonymous = 0
  const irqs = new IrqLines((gsi, level) => void (level ? lines.add(gsi) : lines.delete(gsi)))
  const machine = kind === 'q35' ? 'q35' : 'pc'
  const drives = await Drives.open(
    ['d0', 'd1', 'd2', 'd3'].map((id) => ({ id, file: id, deleteWithDevice: id === 'd3' })),
    async () =>
      Object.assign(new FakeDrive(1 << 16), {
        waiting: 0,
        retry() {},
        abandon() {},
        async close() {},
      }),
    { onStop() {}, log() {}, nowNs: () => 0 },
  )
  const netdevs = new Netdevs({ entropy: new SeededEntropy(3), log() {} })
  for (const network of networks) netdevs.add(network)
  const objects = new ObjectRegistry([], new SeededEntropy(1), netdevs)
  const ioEvents = new IoEvents({
    ioeventfd(range, id) {
      events.add(id)
      return { ...range, id, close: () => void events.delete(id) } as never
    },
  })
  const places = new CpuPlaces(resolveTopology(more.cpus ?? 1, machine))
  const { board, tree } = setUpBoard({
    cpuid: [],
    config: { memory: 64 << 20, machine: { type: machine }, plug, ...more },
    devices: [],
    deleted: (device) => deleted.push(device),
    flash: () => [],
    createVideoMemory: (size) => new FakeVideoMemory(size),
    irqs,
    clock,
    map: createMemoryMap(64 << 20, kind),
    memory: new FlatRam(1 << 20),
    cpus: 1,
    places,
    entropy: new SeededEntropy(2),
    ioEvents,
    objects,
    sendMessage: (address) => messages.push(address) > 0,
    netdev: (id, card) => netdevs.take(id, card),
    anonymousPath: () => `/machine/peripheral-anon/device[${anonymous++}]`,
    releaseNetdev: (id) => netdevs.release(id),
    nextMac: () => defaultMac(0),
    drives,
    chardev: () => {
      throw new Error('no device of these tests has a character device')
    },
    releaseChardev() {},
    setPit() {},
    panic: { panicked() {}, crashLoaded() {} },
    balloonChanged: (pages) => balloons.push(pages),
    actions: { reset() {}, powerOff() {}, suspend() {}, wake() {}, clockSet() {} },
    log: (message) => void said.push(message),
    exit() {},
  })
  board.reset()
  board.applyFirmwareSetup()
  return {
    balloons,
    board,
    tree,
    clock,
    drives,
    places,
    objects,
    netdevs,
    deleted,
    lines,
    messages,
    said,
    events,
  }
}

/** On q35, hot-plug by the ports of PCI Express rather than by ACPI. */
export const NATIVE_HOTPLUG: Partial<MachineConfig> = {
  machine: { type: 'q35', options: { acpiPciHotplug: false } },
}

export function rootPort(id: string, slot: number): DeviceOption {
  return { driver: 'pcie-root-port', id, properties: { slot: String(slot) } }
}
