import { COM_PORTS, SerialPort } from '../chipset/serial-port.ts'
import type { UartState } from '../chipset/uart16550.ts'
import { VmmError } from '../errors.ts'
import type { DeviceOption, DeviceType, PluggedDevice } from './device-type.ts'
import type { PlugContext } from './plug-context.ts'
import { propertyReader } from './properties.ts'

const PORTS = 8
const PORT_MAX = 0xffff
const IRQ_MAX = 15

export const isaSerial: DeviceType = {
  name: 'isa-serial',
  bus: 'ISA',
  category: 'Input devices',
  description: 'serial port: a 16550A UART whose bytes go to a character device',
  properties: [
    { name: 'chardev', type: 'str', help: 'ID of a chardev to use as a backend' },
    {
      name: 'index',
      type: 'uint32',
      help: 'Number of the port, 0 to 3: its place and interrupt; the next by default',
    },
    { name: 'iobase', type: 'uint32', help: 'First port', default: "the index's" },
    { name: 'irq', type: 'uint32', help: 'Interrupt', default: "the index's" },
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const index = indexOf(context, option)
    const place = COM_PORTS[index]!
    const base = read.int('iobase', 0, PORT_MAX + 1 - PORTS, place.base)
    const irq = read.int('irq', 0, IRQ_MAX, place.irq)
    checkFree(context, option, base)
    const chardev = read.text('chardev')
    const backend =
      chardev === undefined ? undefined : context.chardev(chardev, option.id ?? option.driver)
    const port = new SerialPort(context.irqs.source(irq), context.clock, backend)
    const name = option.id ?? `serial${index}`
    context.bus.pio.map({ name, base, len: PORTS, access: { max: 1 }, handler: port.uart })
    context.isaDevices.push({ kind: 'serial', index, base, irq })
    return plugged(port)
  },
}

function plugged(port: SerialPort): PluggedDevice {
  const { uart } = port
  return {
    reset: () => uart.reset(),
    save: () => uart.save(),
    load: (state) => uart.load(state as UartState),
    close: () => port.close(),
  }
}

/**
 * The index that the option names, or as in QEMU the number of serial ports that there are already, whatever
 * theirs are.
 */
function indexOf({ isaDevices }: PlugContext, option: DeviceOption): number {
  const ports = isaDevices.filter(({ kind }) => kind === 'serial')
  const index = propertyReader(option).int('index', 0, COM_PORTS.length - 1, ports.length)
  if (index < COM_PORTS.length) return index
  throw new VmmError(
    'E_DEVICE_OPTION',
    `Max. supported number of ISA serial ports is ${COM_PORTS.length}.`,
    { fields: { device: option.driver } },
  )
}

/** Two ports in one place would be a guest's riddle. */
function checkFree({ isaDevices }: PlugContext, option: DeviceOption, base: number): void {
  const other = isaDevices.find(
    (device) => device.kind === 'serial' && Math.abs(device.base - base) < PORTS,
  )
  if (other === undefined) return
  throw new VmmError(
    'E_DEVICE_OPTION',
    `${option.driver}: another serial port is at 0x${base.toString(16)}; give another 'index' or 'iobase'`,
    { fields: { device: option.driver, iobase: base } },
  )
}
