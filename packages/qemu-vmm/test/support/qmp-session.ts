import type { BlockStats } from '../../src/block/accounting.ts'
import type { DeviceOption } from '../../src/devices/device-type.ts'
import { VmmError } from '../../src/errors.ts'
import type { DriveConfig } from '../../src/machine/drive-config.ts'
import type { DriveInfo } from '../../src/machine/drive.ts'
import { Emitter } from '../../src/machine/emitter.ts'
import { BlockNodes } from '../../src/monitor/qmp/block-nodes.ts'
import { QmpMonitor } from '../../src/monitor/qmp/session.ts'
import { FakeDevice } from '../fixtures/fake-device.ts'
import { FakeMachine, noCharacters } from '../fixtures/fake-machine.ts'

const NONE = { operations: 0, bytes: 0, timeNs: 0, failed: 0, invalid: 0 }
/** Of a drive that nobody has asked for anything. */
export const NO_STATS: BlockStats = {
  read: NONE,
  write: NONE,
  flush: NONE,
  unmap: NONE,
  highestWrite: 0,
}

/** A machine whose drives are only names. */
export class QmpMachine extends FakeMachine {
  readonly emitter: Emitter = new Emitter()
  readonly on: Emitter['on'] = (event, listener) => this.emitter.on(event, listener)

  override async addDrive(config: DriveConfig): Promise<void> {
    if (config.file === '/nowhere') throw new VmmError('E_FILE', 'Could not open')
    const found = { readOnly: false, sizeBytes: 0, isWaiting: false, stats: NO_STATS }
    const { file = '' } = config
    this.open.push({ ...found, ...config, file } satisfies DriveInfo)
    await super.addDrive(config)
  }

  override async removeDrive(id: string): Promise<void> {
    const at = this.open.findIndex((drive) => drive.id === id)
    if (at < 0) throw new VmmError('E_NO_DRIVE', `Failed to find node with node-name='${id}'`)
    this.open.splice(at, 1)
  }

  override async devices(): Promise<DeviceOption[]> {
    return [
      { driver: 'virtio-rng-pci', id: 'r', properties: { bus: 'pci.0', addr: '2.0' } },
      { driver: 'VGA', properties: {} },
    ]
  }

  override async removeDevice(id: string): Promise<void> {
    if (id === 'nothing') throw new VmmError('E_DEVICE_NOT_FOUND', `Device '${id}' not found`)
    await super.removeDevice(id)
  }
}

/** A session, and both sides of it. */
export interface QmpFixture {
  machine: QmpMachine
  device: FakeDevice
  monitor: QmpMonitor
  quits: () => number
  /** Sends text and returns what came back. */
  say(text: string): Promise<unknown[]>
}

/** A session that has just begun. */
export async function create(pretty = false): Promise<QmpFixture> {
  const machine = new QmpMachine()
  const device = new FakeDevice()
  let quits = 0
  const monitor = new QmpMonitor(
    device,
    {
      machine,
      facts: { type: 'pc', cpuModel: 'qemu64', memory: 64 << 20 },
      name: 'vm1',
      uuid: undefined,
      characters: noCharacters([{ label: 'serial0', filename: 'stdio', isOpen: true }]),
      migration: { events: false },
      nodes: new BlockNodes(machine, new Map()),
      human: async (line) => `${line}?\n`,
      quit: () => quits++,
      wallMs: () => 1_700_000_000_250.5,
    },
    pretty,
  )
  const say = async (text: string): Promise<unknown[]> => {
    device.type(text)
    for (let i = 0; i < 30; i++) await new Promise((resolve) => setImmediate(resolve))
    return device
      .take()
      .split('\r\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as unknown)
  }
  return { machine, device, monitor, quits: () => quits, say }
}

/** A session that takes commands. */
export async function negotiated(): Promise<QmpFixture> {
  const fixture = await create()
  await fixture.say('{"execute":"qmp_capabilities"}')
  return fixture
}
