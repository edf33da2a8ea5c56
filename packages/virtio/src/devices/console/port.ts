import { VirtioError } from '../../errors.ts'
import type { DeviceContext } from '../../model.ts'
import type { Virtqueue } from '../../queue/virtqueue.ts'
import { flag, int, parseState } from '../../state.ts'
import {
  VIRTIO_CONSOLE_CONSOLE_PORT,
  VIRTIO_CONSOLE_DEVICE_ADD,
  VIRTIO_CONSOLE_F_MULTIPORT,
  VIRTIO_CONSOLE_PORT_NAME,
  VIRTIO_CONSOLE_PORT_OPEN,
  VIRTIO_CONSOLE_RESIZE,
} from './protocol.ts'

/** Output is handed over in pieces of at most this size. */
const CHUNK_BYTES = 32 << 10
/** After this many bytes other devices have their turn. */
const TURN_BYTES = 1 << 20

/** The host's end of a port. */
export interface ConsolePipe {
  /**
   * Output of the guest, which the callee may keep. False asks for no more until
   * {@link ConsolePort.resume}; this piece was taken all the same.
   */
  write(data: Uint8Array): boolean
  /** There may be room for input again, after `receive` did not take everything. */
  onRoom?(): void
  /** A program of the guest opens or closes the port. */
  onGuestOpen?(open: boolean): void
}

export interface ConsolePortOptions {
  /** Number of the port; 0 is the console of drivers without MULTIPORT. */
  id: number
  /** A console of the guest (hvc) rather than a byte channel. */
  console: boolean
  /** The name by which the guest finds it, such as `org.qemu.guest_agent.0`. */
  name?: string
  pipe: ConsolePipe
  /** False while the host's end is not connected. Default true. */
  open?: boolean
}

export interface ConsolePortState {
  id: number
  guestOpen: boolean
  hostOpen: boolean
  /** Control messages that the driver has had no buffer for: a bit for each event. */
  due: number
  /** Bytes of the next output chain that were handed over already. */
  outputOffset: number
}

/** The order in which the messages of one port are sent. */
const dueOrder = [
  VIRTIO_CONSOLE_DEVICE_ADD,
  VIRTIO_CONSOLE_CONSOLE_PORT,
  VIRTIO_CONSOLE_PORT_NAME,
  VIRTIO_CONSOLE_PORT_OPEN,
  VIRTIO_CONSOLE_RESIZE,
]

/** One port of a virtio console. The methods here are for the host; the model calls the others. */
export class ConsolePort {
  readonly id: number
  readonly isConsole: boolean
  readonly portName: string | undefined
  readonly #pipe: ConsolePipe
  readonly #context: DeviceContext
  readonly #input: Virtqueue
  readonly #output: Virtqueue
  readonly #flush: () => void
  #guestOpen = false
  #hostOpen: boolean
  #due = 0
  #outputOffset = 0
  #blocked = false
  #wantsRoom = false
  cols = 0
  rows = 0

  constructor(
    options: ConsolePortOptions,
    context: DeviceContext,
    queues: { input: Virtqueue; output: Virtqueue },
    flush: () => void,
  ) {
    this.id = options.id
    this.isConsole = options.console
    this.portName = options.name
    this.#pipe = options.pipe
    this.#hostOpen = options.open ?? true
    this.#context = context
    this.#input = queues.input
    this.#output = queues.output
    this.#flush = flush
  }

  /** True while somebody in the guest has the port open. */
  get guestOpen(): boolean {
    return this.#guestOpen || !this.#context.hasFeature(VIRTIO_CONSOLE_F_MULTIPORT)
  }

  get hostOpen(): boolean {
    return this.#hostOpen
  }

  /**
   * Input for the guest; returns how many bytes it had room for. `onRoom` of the pipe says when to
   * offer the rest.
   */
  receive(data: Uint8Array): number {
    let done = 0
    this.#context.guard(() => {
      done = this.#fill(data)
    })
    this.#wantsRoom = done < data.length
    return done
  }

  /** The pipe takes output again. */
  resume(): void {
    if (!this.#blocked) return
    this.#blocked = false
    if (this.#context.running) this.#context.guard(() => this.transmit())
  }

  /** The host's end is connected, or no longer. */
  setOpen(open: boolean): void {
    if (open === this.#hostOpen) return
    this.#hostOpen = open
    this.send(VIRTIO_CONSOLE_PORT_OPEN)
  }

  /** Sends a control message as soon as the driver has a buffer for it. */
  send(event: number): void {
    if (!this.#context.hasFeature(VIRTIO_CONSOLE_F_MULTIPORT)) return
    this.#due |= 1 << event
    this.#flush()
  }

  /** Notes messages without sending them. */
  owe(...events: number[]): void {
    for (const event of events) this.#due |= 1 << event
  }

  /** The event of the next message, or `undefined`. */
  nextDue(): number | undefined {
    return this.#due === 0 ? undefined : dueOrder.find((event) => this.#due & (1 << event))
  }

  sent(event: number): void {
    this.#due &= ~(1 << event)
  }

  setGuestOpen(open: boolean): void {
    if (open === this.#guestOpen) return
    this.#guestOpen = open
    this.#pipe.onGuestOpen?.(open)
    if (open) this.room()
  }

  /** The input queue was kicked. */
  room(): void {
    if (!this.#wantsRoom) return
    this.#wantsRoom = false
    this.#pipe.onRoom?.()
  }

  /** A byte that bypasses the queues. */
  emergency(byte: number): void {
    this.#pipe.write(Uint8Array.of(byte))
  }

  /** Hands output over until there is no more or the pipe is full. */
  transmit(): void {
    const queue = this.#output
    let turn = TURN_BYTES
    queue.disableNotification()
    while (!this.#blocked) {
      const chain = queue.popChain()
      if (chain === undefined) {
        if (queue.enableNotification()) continue
        break
      }
      let offset = this.#outputOffset
      try {
        while (offset < chain.readableBytes && !this.#blocked && turn > 0) {
          const chunk = new Uint8Array(Math.min(CHUNK_BYTES, chain.readableBytes - offset))
          chain.read(offset, chunk)
          offset += chunk.length
          turn -= chunk.length
          this.#blocked = !this.#pipe.write(chunk)
        }
      } catch (error) {
        queue.unpop(chain)
        throw error
      }
      if (offset < chain.readableBytes) {
        // The rest stays in the ring: it is not taken before it can be handed over.
        this.#outputOffset = offset
        queue.unpop(chain)
        if (!this.#blocked) this.#context.again(queue)
        break
      }
      this.#outputOffset = 0
      queue.pushUsed(chain, 0)
      // Chains without bytes cost time as well.
      turn -= 64
      if (turn <= 0 && !this.#blocked) {
        this.#context.again(queue)
        break
      }
    }
    this.#context.signal(queue)
  }

  reset(): void {
    this.#due = 0
    this.#outputOffset = 0
    this.setGuestOpen(false)
  }

  resetQueue(queue: Virtqueue): void {
    if (queue === this.#output) this.#outputOffset = 0
  }

  save(): ConsolePortState {
    return {
      id: this.id,
      guestOpen: this.#guestOpen,
      hostOpen: this.#hostOpen,
      due: this.#due,
      outputOffset: this.#outputOffset,
    }
  }

  load(state: unknown): void {
    const s = parseState<ConsolePortState>(`console port ${this.id}`, state, {
      id: int(this.id, this.id),
      guestOpen: flag,
      hostOpen: flag,
      due: int(0, 0xff),
      outputOffset: int(0, 0xffff_ffff),
    })
    this.#due = s.due
    this.#outputOffset = s.outputOffset
    this.setGuestOpen(s.guestOpen)
    // Whether the host's end is connected is a fact of here and now.
    if (s.hostOpen !== this.#hostOpen) this.owe(VIRTIO_CONSOLE_PORT_OPEN)
  }

  #fill(data: Uint8Array): number {
    const queue = this.#input
    if (!this.#context.running || !queue.ready || !this.guestOpen) return 0
    let done = 0
    while (done < data.length) {
      const chain = queue.popChain()
      if (chain === undefined) {
        if (queue.enableNotification()) continue
        break
      }
      let written = 0
      try {
        written = chain.write(0, data.subarray(done))
      } catch (error) {
        queue.unpop(chain)
        throw error
      }
      if (written === 0 && chain.writableBytes === 0) {
        queue.unpop(chain)
        throw new VirtioError('E_REQUEST', `an input buffer of port ${this.id} has no room`)
      }
      queue.pushUsed(chain, written)
      done += written
    }
    this.#context.signal(queue)
    return done
  }
}
