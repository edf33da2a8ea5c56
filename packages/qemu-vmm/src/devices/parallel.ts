import { PARALLEL_IRQ, PARALLEL_PORTS, ParallelPort } from '../chipset/parallel.ts'
import { VmmError } from '../errors.ts'
import type { DeviceOption, DeviceType } from './device-type.ts'
import type { PlugContext } from './plug-context.ts'
import { propertyReader } from './properties.ts'

const PORT_MAX = 0xffff
const IRQ_MAX = 15

export const isaParallel: DeviceType = {
  name: 'isa-parallel',
  bus: 'ISA',
  category: 'Input devices',
  description: 'parallel port with a printer: bytes go to a character device',
  properties: [
    { name: 'chardev', type: 'str', help: 'ID of a chardev to use as a backend, required' },
    { name: 'index', type: 'uint32', help: 'Number of the port, 0 to 2; the next by default' },
    { name: 'iobase', type: 'uint32', help: 'First port', default: "the index's" },
    { name: 'irq', type: 'uint32', help: 'Interrupt', default: String(PARALLEL_IRQ) },
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const index = indexOf(context, option)
    const place = PARALLEL_PORTS[index]!
    const base = read.int('iobase', 0, PORT_MAX + 1 - place.len, place.base)
    const irq = read.int('irq', 0, IRQ_MAX, PARALLEL_IRQ)
    const backend = context.chardev(read.required('chardev'), option.id ?? option.driver)
    // What the backend has no room for is lost: this printer is never busy.
    const print = (byte: number): void => void backend.write(Uint8Array.of(byte))
    const port = new ParallelPort(context.irqs.source(irq), print)
    const name = option.id ?? `parallel${index}`
    context.bus.pio.map({ name, base, len: place.len, access: { max: 1 }, handler: port })
    context.isaDevices.push({ kind: 'parallel', index, base, irq })
    return port
  },
}

/** The index that the option names, or the first that is free. */
function indexOf(context: PlugContext, option: DeviceOption): number {
  const taken = new Set(
    context.isaDevices.flatMap((device) => (device.kind === 'parallel' ? [device.index] : [])),
  )
  const free = PARALLEL_PORTS.findIndex((_, index) => !taken.has(index))
  const index = propertyReader(option).int('index', 0, PARALLEL_PORTS.length - 1, free)
  if (index >= 0 && !taken.has(index)) return index
  throw new VmmError(
    'E_DEVICE_OPTION',
    `Max. supported number of parallel ports is ${PARALLEL_PORTS.length}, each with another index`,
    { fields: { device: option.driver } },
  )
}
