import {
  BACKENDS,
  MAX_RECONNECT_SECONDS,
  checkSocketPath,
  ringbufSize,
} from '../../cli/options/chardev.ts'
import type { ChardevBackend, ChardevSettings } from '../../cli/settings.ts'
import type { ChardevInfo } from '../command.ts'
import type { QmpCommand, QmpContext } from './command.ts'
import { QmpError } from './message.ts'
import { bool, int, listOf, membersOf, oneOf, str, struct } from './types.ts'
import type { QmpObject } from './types.ts'

const UNIX: QmpObject = {
  ...struct({ type: oneOf(['unix']) }),
  tag: 'type',
  variants: { unix: membersOf({ data: struct({ path: str }) }) },
}

/** Data of the backends; a file for input, a log and other kinds of sockets there are none of. */
const DATA: Readonly<Record<ChardevBackend, QmpObject>> = {
  file: struct({ out: str, 'append?': bool }),
  null: struct({}),
  pty: struct({}),
  ringbuf: struct({ 'size?': int }),
  socket: struct({ addr: UNIX, 'server?': bool, 'wait?': bool, 'reconnect?': int }),
  stdio: struct({ 'signal?': bool }),
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
    case 'socket':
      fillSocket(made, data)
      break
    default:
      break
  }
}

function fillSocket(made: ChardevSettings, data: Readonly<Record<string, unknown>>): void {
  const { server = true, wait, reconnect = 0 } = data
  const { data: address } = data['addr'] as { data: { path: string } }
  made.path = address.path
  checkSocketPath(made.path)
  made.server = server as boolean
  if (!made.server && wait !== undefined) {
    throw new QmpError("'wait' option is incompatible with socket in client connect mode")
  }
  if (made.server && data['reconnect'] !== undefined) {
    throw new QmpError("'reconnect' option is incompatible with socket in server listen mode")
  }
  made.wait = wait === true
  made.reconnect = reconnectSeconds(reconnect as number)
}

function reconnectSeconds(seconds: number): number {
  if (seconds >= 0 && seconds <= MAX_RECONNECT_SECONDS) return seconds
  throw new QmpError(
    `'reconnect' expects a number of seconds from 0 to ${MAX_RECONNECT_SECONDS}, not ${seconds}`,
  )
}
