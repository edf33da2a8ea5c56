import type { DeviceOption } from '../devices/device-type.ts'
import { CPU_PROPERTIES, cpuTypeName } from '../devices/processor.ts'
import { VmmError } from '../errors.ts'
import type { CpuAddress, CpuPlaces } from './cpu-places.ts'

const NUMBER = /^-?\d{1,10}$/

/**
 * The place that an option names for a processor, which is free.
 *
 * @param model of the machine's processors, which are all of one
 * @throws VmmError `E_DEVICE_OPTION` as QEMU 7.2 has it
 */
export function freePlace(option: DeviceOption, places: CpuPlaces, model: string): number {
  const refuse = (message: string): VmmError =>
    new VmmError('E_DEVICE_OPTION', message, { fields: { device: option.id ?? option.driver } })
  const expected = cpuTypeName(model)
  if (option.driver !== expected) {
    throw refuse(`Invalid CPU type, expected cpu type: '${expected}'`)
  }
  const known = CPU_PROPERTIES.map(({ name }) => name)
  const unknown = Object.keys(option.properties).find((name) => !known.includes(name))
  if (unknown !== undefined) {
    throw refuse(`Property '${option.driver}.${unknown}' not found; it has ${known.join(', ')}`)
  }
  const { sockets, dies, cores, threads } = places.topology
  const part = (name: keyof CpuAddress, count: number): number => {
    const text = option.properties[name]
    if (text === undefined || text === '-1') {
      // There is one only: it need not be named.
      if (name === 'die-id' && count === 1) return 0
      throw refuse(`CPU ${name} is not set`)
    }
    if (!NUMBER.test(text)) {
      throw refuse(`Parameter '${name}' expects a number, not '${text}'`)
    }
    const value = Number(text)
    if (value >= 0 && value < count) return value
    throw refuse(`Invalid CPU ${name}: ${text} must be in range 0:${count - 1}`)
  }
  const address: CpuAddress = {
    'socket-id': part('socket-id', sockets),
    'die-id': part('die-id', dies),
    'core-id': part('core-id', cores),
    'thread-id': part('thread-id', threads),
  }
  const index = places.indexOf(address)
  if (!places.isPresent(index)) return index
  throw refuse(`CPU[${index}] with APIC ID ${places.apicIds[index]!} exists`)
}

/** Properties that name a place. Dies are told of where there are several. */
export function addressProperties(places: CpuPlaces, index: number): Partial<CpuAddress> {
  const { 'die-id': die, ...rest } = places.addressOf(index)
  return places.topology.dies > 1 ? { ...rest, 'die-id': die } : rest
}
