import { debugExit, debugcon } from '../chipset/debug-devices.ts'
import type { DeviceType } from './device-type.ts'
import { plugIsa } from './isa.ts'
import { propertyReader } from './properties.ts'

const PORT_MAX = 0xffff

export const isaDebugExit: DeviceType = {
  name: 'isa-debug-exit',
  bus: 'ISA',
  category: 'Misc devices',
  description: 'ends the program: status (value << 1) | 1',
  properties: [
    { name: 'iobase', type: 'uint32', help: 'First port', default: '1281' },
    { name: 'iosize', type: 'uint32', help: 'Number of ports', default: '2' },
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const base = read.int('iobase', 0, PORT_MAX, 0x501)
    const len = read.int('iosize', 1, PORT_MAX + 1 - base, 2)
    return plugIsa(context, option, debugExit({ base, len }))
  },
}

export const isaDebugcon: DeviceType = {
  name: 'isa-debugcon',
  bus: 'ISA',
  category: 'Misc devices',
  description: 'console without a driver: bytes written to a port',
  properties: [
    { name: 'chardev', type: 'str', help: 'ID of a chardev to use as a backend, required' },
    { name: 'iobase', type: 'uint32', help: 'Port', default: '233' },
    { name: 'readback', type: 'uint32', help: 'What reads give', default: '233' },
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const backend = context.chardev(read.required('chardev'), option.id ?? option.driver)
    return plugIsa(
      context,
      option,
      debugcon({
        base: read.int('iobase', 0, PORT_MAX, 0xe9),
        readback: read.int('readback', 0, 0xff, 0xe9),
        // What the backend has no room for is lost: the port cannot tell a guest to wait.
        write: (byte) => void backend.write(Uint8Array.of(byte)),
      }),
    )
  },
}
