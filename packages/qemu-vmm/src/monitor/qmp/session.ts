import type { Chardev } from '../../chardev/chardev.ts'
import type { MachineEvent } from '../../machine/emitter.ts'
import { checkArguments } from './command.ts'
import type { QmpContext } from './command.ts'
import { QMP_COMMANDS } from './commands.ts'
import { eventsOf } from './events.ts'
import type { QmpEvent } from './events.ts'
import { JsonFramer } from './framing.ts'
import { formatJson } from './json.ts'
import { QmpError, errorOf, readRequest } from './message.ts'
import type { QmpRequest } from './message.ts'
import { QMP_VERSION } from './queries.ts'
import { EventThrottle } from './throttle.ts'

const INPUT_BYTES = 4096
/** Whoever lets so much output wait is not listened to, and hears of no events, until it is taken. */
const OUTPUT_CHARS = 1 << 20
const EVENTS: readonly MachineEvent[] = [
  'stop',
  'resume',
  'reset',
  'shutdown',
  'powerdown',
  'guest-panicked',
  'guest-crashloaded',
  'device-deleted',
  'balloon-change',
  'rtc-change',
  'tray-moved',
]

/** The QEMU Machine Protocol on a character device: commands are run one after the other. */
export class QmpMonitor {
  readonly #chardev: Chardev
  readonly #context: QmpContext
  readonly #framer = new JsonFramer()
  readonly #indent: number | undefined
  readonly #removers: (() => void)[]
  readonly #throttle = new EventThrottle<QmpEvent>((entry) => this.#stamped(entry))
  #input: number[] = []
  /** How much of it has been looked at. */
  #inputAt = 0
  #output = ''
  /** The other end takes nothing until it says so. */
  #isBlocked = false
  #busy = false
  #ended = false
  #isNegotiated = false

  /** `pretty` shows values over several lines, for people. */
  constructor(chardev: Chardev, context: QmpContext, pretty: boolean = false) {
    this.#chardev = chardev
    this.#context = context
    this.#indent = pretty ? 4 : undefined
    chardev.canRead = () =>
      this.#busy || this.#output.length > OUTPUT_CHARS
        ? 0
        : INPUT_BYTES - this.#input.length + this.#inputAt
    chardev.onData = (data) => {
      this.#input.push(...data)
      this.#work()
    }
    chardev.onWritable = () => {
      this.#isBlocked = false
      this.#flush()
      this.#work()
    }
    chardev.onOpen = () => this.#greet()
    chardev.onHangup = () => {
      this.#isBlocked = false
      this.#dropInput()
      this.#output = ''
      this.#isNegotiated = false
      this.#throttle.close()
      this.#framer.reset()
    }
    this.#removers = EVENTS.map((event) =>
      context.machine.on(event, (detail) => this.#event(event, detail)),
    )
    if (chardev.connected !== false) this.#greet()
    // What came while there was nobody to read it.
    chardev.notifyReadable?.()
  }

  /** Takes no more commands. */
  close(): void {
    this.#ended = true
    this.#dropInput()
    for (const remove of this.#removers) remove()
    this.#throttle.close()
    this.#flush()
  }

  #greet(): void {
    this.#isNegotiated = false
    this.#send({ QMP: { version: QMP_VERSION, capabilities: [] } })
  }

  #event(event: MachineEvent, detail: unknown): void {
    if (!this.#isNegotiated || this.#output.length > OUTPUT_CHARS) return
    for (const entry of eventsOf(event, detail)) this.#throttle.add(entry)
  }

  #stamped(entry: object): void {
    const ms = this.#context.wallMs()
    const seconds = Math.floor(ms / 1000)
    const microseconds = Math.floor((ms - seconds * 1000) * 1000)
    this.#send({ timestamp: { seconds, microseconds }, ...entry })
  }

  #work(): void {
    while (!this.#busy && !this.#ended) {
      const byte = this.#input[this.#inputAt]
      if (byte === undefined) {
        this.#dropInput()
        break
      }
      this.#inputAt++
      const frame = this.#framer.feed(byte)
      if (frame === undefined) continue
      if ('error' in frame) this.#answer({}, new QmpError(frame.error))
      else void this.#run(frame.text)
    }
    if (!this.#busy && !this.#ended) this.#chardev.notifyReadable?.()
  }

  #dropInput(): void {
    this.#input = []
    this.#inputAt = 0
  }

  async #run(text: string): Promise<void> {
    const { request, ...id } = readRequest(text)
    if (request instanceof QmpError) {
      this.#answer(id, request)
      return
    }
    this.#busy = true
    let value: unknown
    try {
      value = await this.#execute(request)
    } catch (error) {
      value = error instanceof Error ? error : new Error(String(error))
    }
    this.#busy = false
    this.#answer(id, value)
    if (request.execute === 'quit' && !(value instanceof Error)) {
      this.close()
      this.#context.quit()
    } else this.#work()
  }

  #execute({ execute, args }: QmpRequest): unknown {
    if (execute !== 'qmp_capabilities' && !this.#isNegotiated) {
      throw new QmpError(
        "Expecting capabilities negotiation with 'qmp_capabilities'",
        'CommandNotFound',
      )
    }
    const command = QMP_COMMANDS.find(({ name }) => name === execute)
    if (command === undefined) {
      throw new QmpError(`The command ${execute} has not been found`, 'CommandNotFound')
    }
    checkArguments(command, args)
    if (execute === 'qmp_capabilities') return this.#negotiate()
    if (execute === 'quit') {
      this.#stamped({ event: 'SHUTDOWN', data: { guest: false, reason: 'host-qmp-quit' } })
      return undefined
    }
    return command.run(this.#context, args)
  }

  #negotiate(): undefined {
    if (this.#isNegotiated) {
      throw new QmpError(
        'Capabilities negotiation is already complete, command ignored',
        'CommandNotFound',
      )
    }
    this.#isNegotiated = true
    return undefined
  }

  #answer(id: { id?: unknown }, value: unknown): void {
    if (value instanceof Error) this.#send({ ...id, error: errorOf(value) })
    else
      this.#send({
        return: value ?? {},
        ...id,
      })
  }

  #send(value: object): void {
    this.#output += `${formatJson(value, this.#indent)}\r\n`
    this.#flush()
  }

  #flush(): void {
    if (this.#isBlocked || this.#output === '' || this.#chardev.focused === false) return
    if (this.#chardev.write(Buffer.from(this.#output, 'utf8'))) this.#output = ''
    else this.#isBlocked = true
  }
}
