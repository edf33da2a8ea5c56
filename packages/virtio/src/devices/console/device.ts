import { VIRTIO_ID_CONSOLE, featureBit } from '../../constants.ts'
import { VirtioDevice, type VirtioDeviceOptions } from '../../device.ts'
import { VirtioError } from '../../errors.ts'
import type { DeviceContext, DeviceModel } from '../../model.ts'
import type { DescriptorChain } from '../../queue/chain.ts'
import type { Virtqueue } from '../../queue/virtqueue.ts'
import { int, list, opaque, parseState } from '../../state.ts'
import { ConsolePort, type ConsolePortOptions, type ConsolePortState } from './port.ts'
import {
  CONFIG_BYTES,
  CONFIG_EMERG_WR,
  CONTROL_BYTES,
  CONTROL_RECEIVEQ,
  CONTROL_TRANSMITQ,
  VIRTIO_CONSOLE_CONSOLE_PORT,
  VIRTIO_CONSOLE_DEVICE_ADD,
  VIRTIO_CONSOLE_DEVICE_READY,
  VIRTIO_CONSOLE_F_EMERG_WRITE,
  VIRTIO_CONSOLE_F_MULTIPORT,
  VIRTIO_CONSOLE_F_SIZE,
  VIRTIO_CONSOLE_PORT_NAME,
  VIRTIO_CONSOLE_PORT_OPEN,
  VIRTIO_CONSOLE_PORT_READY,
  VIRTIO_CONSOLE_RESIZE,
  portOfQueue,
  receiveQueue,
} from './protocol.ts'

const QUEUE_SIZE = 128
const CONTROL_QUEUE_SIZE = 32
const MAX_PORTS = 511

export interface ConsoleOptions extends VirtioDeviceOptions {
  ports: readonly ConsolePortOptions[]
  /** Ports that there could be, 1 to 511; default 31, as QEMU has. */
  maxPorts?: number
}

export interface ConsoleState {
  cols: number
  rows: number
  ports: ConsolePortState[]
}

/** A virtio console with several ports; `model.port(id)` is the host's end of one. */
export function createConsole(options: ConsoleOptions): VirtioDevice<ConsoleModel> {
  return new VirtioDevice(new ConsoleModel(options), options)
}

/** `virtio-console`, also known as virtio-serial (VirtIO 1.2, section 5.3). */
export class ConsoleModel implements DeviceModel<ConsoleState> {
  readonly name: string = 'virtio-console'
  readonly type: number = VIRTIO_ID_CONSOLE
  readonly features: bigint =
    featureBit(VIRTIO_CONSOLE_F_SIZE) |
    featureBit(VIRTIO_CONSOLE_F_MULTIPORT) |
    featureBit(VIRTIO_CONSOLE_F_EMERG_WRITE)
  readonly queueSizes: readonly number[]
  readonly configBytes: number = CONFIG_BYTES
  readonly #options: readonly ConsolePortOptions[]
  readonly #ports: Map<number, ConsolePort> = new Map()
  readonly #config: DataView = new DataView(new ArrayBuffer(CONFIG_BYTES))
  readonly #message: Uint8Array = new Uint8Array(CONTROL_BYTES)
  #context!: DeviceContext

  constructor(options: ConsoleOptions) {
    const { ports, maxPorts = 31 } = options
    checkOptions(ports, maxPorts)
    this.#options = ports
    this.#config.setUint32(4, maxPorts, true)
    // Port 0, control, and the other ports.
    this.queueSizes = Array.from({ length: 2 * (maxPorts + 1) }, (_, index) =>
      index === CONTROL_RECEIVEQ || index === CONTROL_TRANSMITQ ? CONTROL_QUEUE_SIZE : QUEUE_SIZE,
    )
  }

  attach(context: DeviceContext): void {
    this.#context = context
    for (const options of this.#options) {
      const input = context.queues[receiveQueue(options.id)]!
      const output = context.queues[receiveQueue(options.id) + 1]!
      const flush = (): void => context.guard(() => this.#flushControl())
      this.#ports.set(options.id, new ConsolePort(options, context, { input, output }, flush))
    }
  }

  /** The host's end of a port; throws for one that there is not. */
  port(id: number): ConsolePort {
    const port = this.#ports.get(id)
    if (port !== undefined) return port
    throw new VirtioError('E_CONFIG', `virtio-console has no port ${id}`, { fields: { port: id } })
  }

  /** The terminal behind a console port has this size now. */
  resize(id: number, cols: number, rows: number): void {
    const port = this.port(id)
    port.cols = cols & 0xffff
    port.rows = rows & 0xffff
    if (id === 0) {
      this.#config.setUint16(0, port.cols, true)
      this.#config.setUint16(2, port.rows, true)
      this.#context.configChanged()
    }
    if (port.isConsole) port.send(VIRTIO_CONSOLE_RESIZE)
  }

  configRead(offset: number): number {
    return this.#config.getUint8(offset)
  }

  configWrite(offset: number, size: number, value: number): void {
    if (offset !== CONFIG_EMERG_WR || size !== 4) return
    // Works before anything is negotiated: it is for drivers that cannot do more.
    this.#ports.get(0)?.emergency(value & 0xff)
  }

  activate(): void {}

  notify(queue: Virtqueue): void {
    const { index } = queue
    if (index === CONTROL_RECEIVEQ) return this.#flushControl()
    if (index === CONTROL_TRANSMITQ) {
      this.#context.drain(queue, (chain) => this.#control(queue, chain))
      this.#flushControl()
      return
    }
    const port = this.#ports.get(portOfQueue(index))
    if (port === undefined) return
    if (index % 2 === 0) port.room()
    else port.transmit()
  }

  reset(): void {
    for (const port of this.#ports.values()) port.reset()
  }

  resetQueue(queue: Virtqueue): void {
    for (const port of this.#ports.values()) port.resetQueue(queue)
  }

  save(): ConsoleState {
    return {
      cols: this.#config.getUint16(0, true),
      rows: this.#config.getUint16(2, true),
      ports: [...this.#ports.values()].map((port) => port.save()),
    }
  }

  load(state: ConsoleState): void {
    const count = this.#ports.size
    const s = parseState<ConsoleState>(this.name, state, {
      cols: int(0, 0xffff),
      rows: int(0, 0xffff),
      ports: list(opaque, count, count) as never,
    })
    this.#config.setUint16(0, s.cols, true)
    this.#config.setUint16(2, s.rows, true)
    let at = 0
    for (const port of this.#ports.values()) port.load(s.ports[at++])
  }

  /** A message of the driver (section 5.3.6.2). Nonsense is ignored. */
  #control(queue: Virtqueue, chain: DescriptorChain): void {
    const complete = chain.read(0, this.#message) === CONTROL_BYTES
    queue.pushUsed(chain, 0)
    if (!complete) return
    const view = new DataView(this.#message.buffer)
    const id = view.getUint32(0, true)
    const event = view.getUint16(4, true)
    const on = view.getUint16(6, true) !== 0
    if (event === VIRTIO_CONSOLE_DEVICE_READY) {
      if (on) for (const port of this.#ports.values()) port.owe(VIRTIO_CONSOLE_DEVICE_ADD)
      return
    }
    const port = this.#ports.get(id)
    if (port === undefined) return
    if (event === VIRTIO_CONSOLE_PORT_READY && on) {
      if (port.isConsole) port.owe(VIRTIO_CONSOLE_CONSOLE_PORT)
      if (port.isConsole && port.cols > 0) port.owe(VIRTIO_CONSOLE_RESIZE)
      if (port.portName !== undefined) port.owe(VIRTIO_CONSOLE_PORT_NAME)
      if (port.hostOpen) port.owe(VIRTIO_CONSOLE_PORT_OPEN)
    } else if (event === VIRTIO_CONSOLE_PORT_OPEN) {
      port.setGuestOpen(on)
    }
  }

  /** Sends what is due, as far as the driver has given buffers. */
  #flushControl(): void {
    const queue = this.#context.queues[CONTROL_RECEIVEQ]!
    if (!this.#context.running || !queue.ready) return
    for (const port of this.#ports.values()) {
      for (let event = port.nextDue(); event !== undefined; event = port.nextDue()) {
        const chain = this.#popAny(queue)
        if (chain === undefined) return this.#context.signal(queue)
        try {
          queue.pushUsed(chain, chain.write(0, controlMessage(port, event)))
        } catch (error) {
          queue.unpop(chain)
          throw error
        }
        port.sent(event)
      }
    }
    this.#context.signal(queue)
  }

  /** A chain, or the promise of a kick when there is one again. */
  #popAny(queue: Virtqueue): DescriptorChain | undefined {
    const chain = queue.popChain()
    if (chain !== undefined || !queue.enableNotification()) return chain
    return queue.popChain()
  }
}

function controlMessage(port: ConsolePort, event: number): Uint8Array {
  const name = event === VIRTIO_CONSOLE_PORT_NAME ? new TextEncoder().encode(port.portName) : []
  const resize = event === VIRTIO_CONSOLE_RESIZE
  const message = new Uint8Array(CONTROL_BYTES + name.length + (resize ? 4 : 0))
  const view = new DataView(message.buffer)
  view.setUint32(0, port.id, true)
  view.setUint16(4, event, true)
  const value = event === VIRTIO_CONSOLE_PORT_OPEN ? Number(port.hostOpen) : 1
  view.setUint16(6, value, true)
  message.set(name, CONTROL_BYTES)
  if (resize) {
    view.setUint16(CONTROL_BYTES, port.cols, true)
    view.setUint16(CONTROL_BYTES + 2, port.rows, true)
  }
  return message
}

function checkOptions(ports: readonly ConsolePortOptions[], maxPorts: number): void {
  const refuse = (what: string): never => {
    throw new VirtioError('E_CONFIG', `virtio-console cannot have ${what}`)
  }
  if (!Number.isInteger(maxPorts) || maxPorts < 1 || maxPorts > MAX_PORTS) {
    refuse(`${maxPorts} ports: use 1 to ${MAX_PORTS}`)
  }
  const seen = new Set<number>()
  for (const { id, name } of ports) {
    if (!Number.isInteger(id) || id < 0 || id >= maxPorts) {
      refuse(`port ${id}: use 0 to ${maxPorts - 1}`)
    }
    if (seen.has(id)) refuse(`two ports ${id}`)
    if (name !== undefined && !/^[\x21-\x7e]{1,120}$/.test(name)) {
      refuse(`the port name '${name}': use at most 120 ASCII characters without spaces`)
    }
    seen.add(id)
  }
}
