import { createConsole } from 'virtio'
import type { ConsolePipe, ConsolePort, ConsolePortOptions } from 'virtio'

import type { SerialBackend } from '../chipset/serial-port.ts'
import { VmmError } from '../errors.ts'
import type { DeviceOption, DeviceType } from './device-type.ts'
import { virtioMemory } from './guest-memory.ts'
import type { PlugContext } from './plug-context.ts'
import { propertyReader } from './properties.ts'
import { virtioPciProperties, VirtioPciDevice } from './virtio-pci.ts'

const MAX_PORTS = 31
const INPUT_BYTES = 4096

export const virtioSerialPci: DeviceType = {
  name: 'virtio-serial-pci',
  bus: 'PCI',
  category: 'Input devices',
  description: 'virtio serial bus, for virtconsole and virtserialport',
  hotpluggable: true,
  properties: [
    { name: 'max_ports', type: 'uint32', help: 'Ports that there could be', default: '31' },
    ...virtioPciProperties(),
  ],
  plug(context, option, children) {
    const name = option.id ?? option.driver
    const maxPorts = propertyReader(option).int('max_ports', 1, MAX_PORTS, MAX_PORTS)
    const pipes = new Map<number, ChardevPipe>()
    const ports: ConsolePortOptions[] = []
    for (const child of children) {
      const port = portOptions(context, child, maxPorts, new Set(pipes.keys()))
      pipes.set(port.id, port.pipe)
      ports.push(port)
    }
    const device = createConsole({
      memory: virtioMemory(context.memory),
      ports,
      maxPorts,
      onError: (error) => context.log(`${name}: ${String(error)}`),
    })
    for (const [id, pipe] of pipes) pipe.connect(device.model.port(id))
    return new VirtioPciDevice(context, option, device, 2)
  },
}

const PORT_PROPERTIES = [
  { name: 'chardev', type: 'str', help: 'ID of a chardev to use as a backend, required' },
  { name: 'name', type: 'str', help: 'Name by which the guest finds the port' },
  { name: 'nr', type: 'uint32', help: 'Number of the port' },
  { name: 'bus', type: 'str', help: 'Bus to plug into: the ID of a virtio-serial-pci, with .0' },
] as const

export const virtconsole: DeviceType = {
  name: 'virtconsole',
  bus: 'virtio-serial-bus',
  category: 'Input devices',
  description: 'console port (hvc) on a virtio serial bus',
  properties: PORT_PROPERTIES,
}

export const virtserialport: DeviceType = {
  name: 'virtserialport',
  bus: 'virtio-serial-bus',
  category: 'Input devices',
  description: 'byte channel on a virtio serial bus',
  properties: PORT_PROPERTIES,
}

function portOptions(
  context: PlugContext,
  option: DeviceOption,
  maxPorts: number,
  taken: ReadonlySet<number>,
): ConsolePortOptions & { pipe: ChardevPipe } {
  const read = propertyReader(option)
  const isConsole = option.driver === 'virtconsole'
  // Port 0 is for consoles: drivers without several ports take it for one.
  let id = read.int('nr', 0, maxPorts - 1, -1)
  if (id < 0) for (id = isConsole ? 0 : 1; taken.has(id);) id++
  const owner = option.id ?? `${option.driver} ${id}`
  if (taken.has(id) || id >= maxPorts || (id === 0 && !isConsole)) {
    const reason = taken.has(id) ? 'is taken' : id === 0 ? 'is for a virtconsole' : 'is too high'
    throw new VmmError('E_DEVICE_OPTION', `port ${id} for ${owner} ${reason}; give it another nr`, {
      fields: { device: owner, nr: id },
    })
  }
  const pipe = new ChardevPipe(context.chardev(read.required('chardev'), owner))
  const name = read.text('name')
  return { id, console: isConsole, pipe, ...(name === undefined ? {} : { name }) }
}

/** A character device as the host's end of a port. */
class ChardevPipe implements ConsolePipe {
  readonly #backend: SerialBackend
  /** Output that the backend refused. */
  #output: Uint8Array | undefined
  /** Input that the guest had no room for. */
  #input: Uint8Array = new Uint8Array(0)
  #port: ConsolePort | undefined

  constructor(backend: SerialBackend) {
    this.#backend = backend
    backend.canRead = () => (this.#input.length === 0 ? INPUT_BYTES : 0)
    backend.onData = (data) => this.#receive(data)
    backend.onWritable = () => {
      if (this.#output !== undefined && !backend.write(this.#output)) return
      this.#output = undefined
      this.#port?.resume()
    }
  }

  connect(port: ConsolePort): void {
    this.#port = port
  }

  write(data: Uint8Array): boolean {
    if (this.#backend.write(data)) return true
    this.#output = data
    return false
  }

  onRoom(): void {
    this.#receive(this.#input)
    if (this.#input.length === 0) this.#backend.notifyReadable?.()
  }

  onGuestOpen(open: boolean): void {
    if (open) this.onRoom()
  }

  #receive(data: Uint8Array): void {
    const done = this.#port?.receive(data) ?? 0
    // The bytes may be a part of a buffer that is used again.
    this.#input = data.slice(done)
  }
}
