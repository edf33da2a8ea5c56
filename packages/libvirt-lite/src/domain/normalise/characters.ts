import { refusal, unsupported } from '../refuse.ts'
import type { DomainOptions } from '../options.ts'
import type {
  CharacterProtocol,
  CharacterSource,
  Console,
  DomainDefinition,
  Serial,
} from '../generated/model.ts'

interface Character {
  type?: string
  sources?: CharacterSource[]
  protocol?: CharacterProtocol
}

/** What a source must have, by the type of the device. */
const needed: Readonly<Record<string, keyof CharacterSource>> = {
  dev: 'path',
  file: 'path',
  pipe: 'path',
  unix: 'path',
  tcp: 'service',
  udp: 'service',
  spiceport: 'channel',
  dbus: 'channel',
}

/** Serial ports, parallel ports, consoles and channels. */
export function normaliseCharacters(def: DomainDefinition, options: DomainOptions): void {
  const { devices } = def
  if (devices === undefined) return
  for (const device of [
    ...(devices.serials ?? []),
    ...(devices.parallels ?? []),
    ...(devices.consoles ?? []),
    ...(devices.channels ?? []),
  ]) {
    device.type ??= 'pty'
  }
  pairConsole(def)
  number(devices.serials ?? [])
  number(devices.parallels ?? [])
  for (const serial of devices.serials ?? []) normaliseSerial(serial)
  for (const channel of devices.channels ?? []) forgetGeneratedPath(channel, options)
  for (const [index, console] of (devices.consoles ?? []).entries()) {
    console.target ??= {}
    console.target.type ??= 'serial'
    if (index > 0 && console.target.type === 'serial') {
      throw unsupported('only the first console can be a serial port', {
        at: console.target,
        below: '/@type',
        value: 'serial',
      })
    }
  }
  number(devices.consoles ?? [])
  for (const device of [
    ...(devices.serials ?? []),
    ...(devices.parallels ?? []),
    // One that is a serial port gets the source of that port.
    ...(devices.consoles ?? []).filter(({ target }) => target?.type !== 'serial'),
    ...(devices.redirdevs ?? []),
  ]) {
    checkSource(device)
  }
  for (const channel of devices.channels ?? []) {
    // The path of a channel is made up at the start.
    if (channel.target?.type === 'virtio' && channel.type === 'unix') continue
    checkSource(channel)
  }
  copyFirstSerial(def)
}

/** Each gets the number after the highest that there was before, as libvirt counts. */
function number(devices: readonly { target?: { port?: number } }[]): void {
  let next = 0
  for (const device of devices) {
    device.target ??= {}
    device.target.port ??= next
    next = Math.max(next, device.target.port + 1)
  }
}

/** The first serial port is the console as well: each brings the other. */
function pairConsole(def: DomainDefinition): void {
  const { devices } = def
  if (devices === undefined) return
  const [console] = devices.consoles ?? []
  const isSerial = console !== undefined && (console.target?.type ?? 'serial') === 'serial'
  if (isSerial && (devices.serials ?? []).length === 0) {
    const { target: _, tty: __, alias, address, ...backend } = structuredClone(console)
    devices.serials = [{ ...backend, ...(alias ? { alias } : {}), ...(address ? { address } : {}) }]
  }
  const [serial] = devices.serials ?? []
  if (console === undefined && serial !== undefined) {
    const isa = (serial.target?.type ?? 'isa-serial') === 'isa-serial'
    const used = serial.target?.model?.name ?? 'isa-serial'
    if (isa && used === 'isa-serial') devices.consoles = [{ type: serial.type ?? 'pty' }]
  }
}

/** A console that is a serial port shows what that port is connected to. */
function copyFirstSerial({ devices }: DomainDefinition): void {
  const [serial] = devices?.serials ?? []
  const [console] = devices?.consoles ?? []
  if (serial === undefined || console?.target?.type !== 'serial') return
  const { type, sources, protocol, log, alias } = serial
  const copy: Console = {
    ...(type ? { type } : {}),
    ...(sources ? { sources: structuredClone(sources) } : {}),
    ...(protocol ? { protocol: { ...protocol } } : {}),
    ...(log ? { log: { ...log } } : {}),
    target: { type: 'serial', port: serial.target?.port ?? 0 },
    ...(alias ? { alias: { ...alias } } : {}),
  }
  devices?.consoles?.splice(0, 1, copy)
}

const serialModels = {
  'isa-serial': 'isa-serial',
  'usb-serial': 'usb-serial',
  'pci-serial': 'pci-serial',
  'isa-debug': 'isa-debugcon',
} as const

function normaliseSerial({ target, address }: Serial): void {
  if (target === undefined) return
  // An address says what kind of device it is when nothing else does.
  const byAddress =
    address?.type === 'usb' ? 'usb-serial' : address?.type === 'pci' ? 'pci-serial' : 'isa-serial'
  target.type ??= byAddress
  if (!(target.type in serialModels)) {
    throw unsupported(`expected one of ${Object.keys(serialModels).join(', ')} on this machine`, {
      at: target,
      below: '/@type',
      value: target.type,
    })
  }
  target.model ??= { name: serialModels[target.type as keyof typeof serialModels] }
}

function checkSource(device: Character): void {
  // On the terminal and pty, a path is where it was the last time.
  if (device.type === 'pty' || device.type === 'stdio') delete device.sources
  const key = needed[device.type ?? 'pty']
  if (device.type === 'tcp') {
    const [source] = device.sources ?? []
    if (source !== undefined) source.mode ??= 'connect'
    device.protocol ??= { type: 'raw' }
  }
  if (device.type === 'unix' || device.type === 'tcp') {
    for (const source of device.sources ?? []) {
      if (source.reconnect !== undefined && source.mode !== 'connect') {
        throw refusal('is possible with mode="connect" alone', { at: source.reconnect })
      }
    }
  }
  if (key === undefined) return
  const has = (device.sources ?? []).some((source) => source[key] !== undefined)
  if (has) return
  throw refusal(`is missing: type "${device.type}" has source/@${key}`, {
    at: device,
    below: '/source',
  })
}

/** Paths that the start makes up differ from host to host, and are forgotten. */
function forgetGeneratedPath(
  channel: Character,
  { stateDir = '/var/lib/libvirt/qemu' }: DomainOptions,
): void {
  const [source] = channel.sources ?? []
  if (channel.type !== 'unix' || source === undefined) return
  if (
    source.path === undefined
      ? source.mode !== 'connect'
      : source.path.startsWith(`${stateDir}/channel/target/`)
  ) {
    delete channel.sources
  }
}
