import { join } from 'node:path'
import type { Alias, CharacterProtocol, CharacterSource } from '../generated/model.ts'
import { notYet, only, onOff } from './command.ts'
import type { Command } from './command.ts'

interface Character {
  type?: string
  sources?: CharacterSource[]
  protocol?: CharacterProtocol
  alias?: Alias
}

const ofSource = ['mode', 'path', 'host', 'service', 'append', 'reconnect', 'seclabels']
const handled = ['type', 'sources', 'target', 'alias', 'address', 'protocol', 'tty']

/** Adds serial and parallel ports, consoles and channels. */
export function addCharacters(command: Command): void {
  const { devices = {} } = command.def
  addPorts(command, '-serial', 'serial', devices.serials ?? [])
  addPorts(command, '-parallel', 'parallel', devices.parallels ?? [])
  for (const [index, channel] of (devices.channels ?? []).entries()) {
    const path = `/domain/devices/channel[${index + 1}]`
    if (channel.target?.type !== 'virtio') {
      throw notYet(`${path}/target/@type`, 'expected "virtio"')
    }
    const { address } = channel
    const place = address?.type === 'virtio-serial' ? address : undefined
    command.addDevice(
      'virtserialport',
      path,
      { ...(channel.alias && { alias: channel.alias }) },
      {
        bus: `virtio-serial${place?.controller ?? 0}.0`,
        nr: place?.port,
        chardev: addChardev(command, channel, path),
        name: channel.target.name,
      },
    )
  }
  for (const [index, console] of (devices.consoles ?? []).entries()) {
    // The first one is the serial port, seen another way.
    if (console.target?.type === 'serial') continue
    const path = `/domain/devices/console[${index + 1}]`
    if (console.target?.type !== 'virtio') throw notYet(`${path}/target/@type`, 'expected "virtio"')
    command.addDevice(
      'virtconsole',
      path,
      { ...(console.alias && { alias: console.alias }) },
      {
        chardev: addChardev(command, console, path),
      },
    )
  }
}

/** Ports are counted from 0, and those between them are empty. */
function addPorts(
  command: Command,
  option: string,
  name: string,
  ports: readonly (Character & { target?: { port?: number; type?: string } })[],
): void {
  const byNumber = new Map(ports.map((port, index) => [port.target?.port ?? index, index]))
  const highest = Math.max(-1, ...byNumber.keys())
  if (highest > 3) throw notYet(`/domain/devices/${name}`, 'ports are 0 to 3')
  if (byNumber.size < ports.length) {
    throw notYet(`/domain/devices/${name}`, 'two have the same port')
  }
  for (let number = 0; number <= highest; number++) {
    const index = byNumber.get(number)
    const port = index === undefined ? undefined : ports[index]
    if (port === undefined || index === undefined) {
      command.add(option, 'none')
      continue
    }
    const path = `/domain/devices/${name}[${index + 1}]`
    if (name === 'serial' && port.target?.type !== 'isa-serial') {
      throw notYet(`${path}/target/@type`, 'expected "isa-serial"')
    }
    command.add(option, `chardev:${addChardev(command, port, path)}`)
  }
}

/** Adds the host's end of a character device, and returns its name. */
function addChardev(command: Command, device: Character, path: string): string {
  only(device, path, handled)
  const alias = device.alias?.name ?? ''
  const id = `char${alias}`
  for (const [index, each] of (device.sources ?? []).entries()) {
    only(each, `${path}/source[${index + 1}]`, ofSource)
  }
  const [source] = device.sources ?? []
  const server = source?.mode !== 'connect'
  switch (device.type ?? 'pty') {
    case 'null':
      command.addKeys('-chardev', 'null', { id })
      break
    case 'file':
      command.addKeys('-chardev', 'file', { id, path: source?.path, append: onOff(source?.append) })
      break
    case 'pty':
      if (command.options.qmpSocket === undefined) {
        command.addKeys('-chardev', 'pty', { id })
        break
      }
      // Whoever wants it connects through the daemon, so a socket does, and works everywhere.
      addSocket(command, alias, join(command.options.stateDir, `${alias}.sock`))
      break
    case 'unix':
      if (source?.path === undefined || server) {
        addSocket(command, alias, source?.path ?? join(command.options.stateDir, `${alias}.sock`))
      } else {
        command.addKeys('-chardev', 'socket', {
          id,
          path: source.path,
          reconnect: reconnectOf(source),
        })
      }
      break
    case 'tcp':
      addTcp(command, id, device, path)
      break
    case 'udp':
      addUdp(command, id, device)
      break
    case 'pipe':
      command.addKeys('-chardev', 'pipe', { id, path: source?.path })
      break
    default:
      throw notYet(
        `${path}/@type`,
        `"${device.type}" is not there yet, expected one of pty, unix, tcp, udp, pipe, file, null` +
          (device.type === 'spicevmc' ? '; remove it, it goes with a screen' : ''),
      )
  }
  return id
}

/** A server does not hold up the start until somebody connects. */
function addTcp(command: Command, id: string, device: Character, path: string): void {
  const [source] = device.sources ?? []
  const protocol = device.protocol?.type ?? 'raw'
  if (protocol !== 'raw' && protocol !== 'telnet') {
    throw notYet(`${path}/protocol/@type`, `"${protocol}" is not there yet, use raw or telnet`)
  }
  command.addKeys('-chardev', 'socket', {
    id,
    host: source?.host,
    port: source?.service,
    telnet: protocol === 'telnet' ? 'on' : undefined,
    ...(source?.mode === 'bind' ? { server: 'on', wait: 'off' } : {}),
    reconnect: source === undefined ? undefined : reconnectOf(source),
  })
}

/** One source says where datagrams go, another one where they are received. */
function addUdp(command: Command, id: string, { sources = [] }: Character): void {
  const to = sources.find(({ mode }) => mode !== 'bind')
  const from = sources.find(({ mode }) => mode === 'bind')
  command.addKeys('-chardev', 'udp', {
    id,
    host: to?.host ?? '',
    port: to?.service,
    localaddr: from?.host ?? '',
    localport: from?.service ?? '0',
  })
}

function reconnectOf({ reconnect }: CharacterSource): number | undefined {
  return reconnect?.enabled === true ? (reconnect.timeout ?? 1) : undefined
}

function addSocket(command: Command, alias: string, path: string): void {
  command.addKeys('-chardev', 'socket', { id: `char${alias}`, path, server: 'on', wait: 'off' })
  command.result.endpoints.push({ alias, path })
}
