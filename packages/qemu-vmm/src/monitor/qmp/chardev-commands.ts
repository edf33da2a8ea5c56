import { BACKENDS, ringbufSize, udpOf } from '../../cli/options/chardev.ts'
import { socketOf } from '../../cli/options/chardev-socket.ts'
import type { ChardevBackend, ChardevSettings } from '../../cli/settings.ts'
import type { ChardevInfo } from '../command.ts'
import type { QmpCommand, QmpContext } from './command.ts'
import { QmpError } from './message.ts'
import { bool, int, listOf, membersOf, oneOf, str, struct } from './types.ts'
import type { QmpObject } from './types.ts'

const INET = struct({ host: str, port: str, 'to?': int, 'ipv4?': bool, 'ipv6?': bool })
const UNIX = struct({ path: str, 'abstract?': bool, 'tight?': bool })

/** `SocketAddressLegacy`, as far as there are such sockets here. */
function address(kinds: Readonly<Record<string, QmpObject>>): QmpObject {
  return {
    ...struct({ type: oneOf(Object.keys(kinds)) }),
    tag: 'type',
    variants: Object.fromEntries(
      Object.entries(kinds).map(([type, data]) => [type, membersOf({ data })]),
    ),
  }
}

/** Data of the backends; a file for input and a log there are none of. */
const DATA: Readonly<Record<ChardevBackend, QmpObject>> = {
  file: struct({ out: str, 'append?': bool }),
  null: struct({}),
  pipe: struct({ device: str }),
  pty: struct({}),
  ringbuf: struct({ 'size?': int }),
  socket: struct({
    addr: address({ inet: INET, unix: UNIX }),
    'server?': bool,
    'wait?': bool,
    'nodelay?': bool,
    'telnet?': bool,
    'reconnect?': int,
  }),
  stdio: struct({ 'signal?': bool }),
  udp: struct({ remote: address({ inet: INET }), 'local?': address({ inet: INET }) }),
}

const BACKEND: QmpObject = {
  ...struct({ type: oneOf(BACKENDS) }),
  tag: 'type',
  variants: Object.fromEntries(
    Object.entries(DATA).map(([type, data]) => [type, membersOf({ data })]),
  ),
}

const RETURN = struct({ 'pty?': str })
const FORMAT = oneOf(['utf8', 'base64'])

/** Commands for character devices. */
export const CHARDEV_COMMANDS: readonly QmpCommand[] = [
  {
    name: 'chardev-add',
    args: struct({ id: str, backend: BACKEND }),
    returns: RETURN,
    run: ({ characters }, { id, backend }) => {
      const name = id as string
      return characters.add(name, settingsOf(backend, `Failed to add chardev '${name}': `))
    },
  },
  {
    name: 'chardev-change',
    args: struct({ id: str, backend: BACKEND }),
    returns: RETURN,
    run: ({ characters }, { id, backend }) =>
      characters.change(id as string, settingsOf(backend, '')),
  },
  {
    name: 'chardev-remove',
    args: struct({ id: str }),
    run: ({ characters }, { id }) => characters.remove(id as string),
  },
  {
    name: 'chardev-send-break',
    args: struct({ id: str }),
    run: ({ characters }, { id }) => characters.sendBreak(id as string),
  },
  {
    name: 'query-chardev-backends',
    args: struct({}),
    returns: listOf(struct({ name: str })),
    run: () => BACKENDS.map((name) => ({ name })),
  },
  {
    name: 'ringbuf-write',
    args: struct({ device: str, data: str, 'format?': FORMAT }),
    run: (context, { device, data, format = 'utf8' }) => {
      ringOf(context, device as string).write(
        Buffer.from(data as string, format === 'utf8' ? 'utf8' : 'base64'),
      )
    },
  },
  {
    name: 'ringbuf-read',
    args: struct({ device: str, size: int, 'format?': FORMAT }),
    returns: str,
    run: (context, { device, size, format = 'utf8' }) => {
      const ring = ringOf(context, device as string)
      if ((size as number) <= 0) throw new QmpError('size must be greater than zero')
      const encoding = format === 'utf8' ? 'utf8' : 'base64'
      return Buffer.from(ring.read(size as number)).toString(encoding)
    },
  },
]

function ringOf({ characters }: QmpContext, label: string): NonNullable<ChardevInfo['ring']> {
  const found = characters.list().find((candidate) => candidate.label === label)
  if (found === undefined) throw new QmpError(`Device '${label}' not found`)
  if (found.ring === undefined) throw new QmpError(`${label} is not a ringbuf device`)
  return found.ring
}

/** What the options of `-chardev` would say. Throws `QmpError` with the prefix for what cannot be. */
function settingsOf(backend: unknown, prefix: string): ChardevSettings {
  const { type, data } = backend as {
    type: ChardevBackend
    data: Readonly<Record<string, unknown>>
  }
  const made: ChardevSettings = { backend: type, mux: false, signal: false, at: 'chardev' }
  try {
    fill(made, data)
  } catch (error) {
    throw new QmpError(prefix + (error as Error).message)
  }
  return made
}

function fill(made: ChardevSettings, data: Readonly<Record<string, unknown>>): void {
  switch (made.backend) {
    case 'file':
      made.path = data['out'] as string
      made.append = data['append'] === true
      break
    case 'ringbuf':
      made.size = ringbufSize(data['size'] === undefined ? undefined : String(data['size']))
      break
    case 'stdio':
      made.signal = data['signal'] !== false
      break
    case 'socket': {
      const { addr, server = true, wait = false, ...others } = data
      const waits = server === true || data['wait'] !== undefined ? { wait } : {}
      made.socket = socketOf(keysOf({ ...placeOf(addr), ...others, server, ...waits }))
      break
    }
    case 'udp': {
      const { host, port } = placeOf(data['local'])
      const local = { localaddr: host, localport: port }
      made.udp = udpOf(keysOf({ ...placeOf(data['remote']), ...local }))
      break
    }
    case 'pipe':
      made.path = data['device'] as string
      break
    default:
      break
  }
}

function placeOf(place: unknown): Readonly<Record<string, unknown>> {
  return (place as { data: Readonly<Record<string, unknown>> } | undefined)?.data ?? {}
}

/** Members as keys of `-chardev`. */
function keysOf(members: Readonly<Record<string, unknown>>): Map<string, string> {
  const given = Object.entries(members).filter(([, value]) => value !== undefined)
  return new Map(
    given.map(([key, value]) => [
      key,
      typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value),
    ]),
  )
}
