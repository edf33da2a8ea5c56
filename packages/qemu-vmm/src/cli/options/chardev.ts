import { CliError } from '../cli-error.ts'
import { keyvalMap, parseBool, parseKeyval } from '../keyval.ts'
import { choice, keyvalOption } from '../option.ts'
import type { KeySpec, OptionSpec } from '../option.ts'
import type { ChardevBackend, ChardevSettings, Settings } from '../settings.ts'
import { parseSize } from '../size.ts'

/** What there is. */
export const BACKENDS: readonly ChardevBackend[] = [
  'file',
  'null',
  'pty',
  'ringbuf',
  'socket',
  'stdio',
]
const RINGBUF_BYTES = 64 * 1024
const MAX_RINGBUF_BYTES = 64 * 1024 * 1024
/** `sun_path` of a socket address, without the zero at its end. */
const MAX_PATH_BYTES = 107
/** A day: a longer time is a mistake, and timers cannot count much further. */
export const MAX_RECONNECT_SECONDS = 86_400

const SOCKET_KEYS: readonly KeySpec[] = [
  {
    name: 'path',
    value: 'file',
    help: 'file: where to write; socket: its name in the file system',
  },
  {
    name: 'fd',
    value: 'number',
    help: 'socket with server=on: a listening socket that the process was given, in place of path',
  },
  {
    name: 'server',
    value: 'on|off',
    help: 'socket: wait to be connected to, one peer at a time (default: off, connect to the path)',
  },
  {
    name: 'wait',
    value: 'on|off',
    help: 'socket with server=on: the machine starts when somebody has connected (default: on)',
  },
  {
    name: 'reconnect',
    value: 'seconds',
    help: 'socket with server=off: connect again after so long, 0 is never (default: 0)',
  },
]

/** Which backends have a key; other keys belong to all of them. */
const OWNERS: Readonly<Record<string, readonly ChardevBackend[]>> = {
  signal: ['stdio'],
  path: ['file', 'socket'],
  append: ['file'],
  size: ['ringbuf'],
  fd: ['socket'],
  server: ['socket'],
  wait: ['socket'],
  reconnect: ['socket'],
}

const UNIX_ONLY = 'sockets are UNIX sockets only, named by path'

/** `-chardev`. */
export const chardev: OptionSpec = keyvalOption({
  name: 'chardev',
  argument: '[backend=]file|null|pty|ringbuf|socket|stdio,id=id[,key=value...]',
  implied: 'backend',
  repeatable: true,
  help: ["character device, for -serial chardev:ID and -mon ('-chardev help' lists the backends)"],
  keys: [
    { name: 'backend', value: BACKENDS.join('|'), help: 'where the bytes go' },
    { name: 'id', value: 'id', help: 'name of the device, required' },
    { name: 'mux', value: 'on|off', help: 'share between several users (default: off)' },
    {
      name: 'signal',
      value: 'on|off',
      help: 'stdio: Ctrl-C ends the program (default: on) or goes to the guest',
    },
    ...SOCKET_KEYS,
    { name: 'append', value: 'on|off', help: 'file: keep what is there (default: off)' },
    {
      name: 'size',
      value: 'size',
      help: 'ringbuf: how many bytes are kept, a power of two (default: 64k)',
    },
  ],
  refused: { host: UNIX_ONLY, port: UNIX_ONLY, abstract: UNIX_ONLY },
  owner: (values) => {
    if (values.has('backend')) backendOf(values)
    return 'chardev'
  },
  list: () => ['Available chardev backend types:', ...BACKENDS.map((b) => `  ${b}`)].join('\n'),
  take: takeChardev,
})

/** The socket that `unix:PATH[,key=value...]` of `-serial` and `-monitor` stands for. */
export function socketSettings(text: string, at: string): ChardevSettings {
  const keys = SOCKET_KEYS.map((key) => key.name)
  const values = keyvalMap(parseKeyval(text, { implied: 'path', keys }))
  const settings: ChardevSettings = { backend: 'socket', mux: false, signal: false, at }
  takeSocket(settings, values)
  return settings
}

function takeChardev(settings: Settings, values: Map<string, string>, at: string): void {
  const backend = backendOf(values)
  const id = values.get('id')
  if (id === undefined) throw new CliError("Parameter 'id' is missing")
  checkId(id)
  if (settings.chardevs.has(id)) throw new CliError(`Duplicate ID '${id}' for chardev`)
  for (const [key, owners] of Object.entries(OWNERS)) {
    if (values.has(key) && !owners.includes(backend)) {
      throw new CliError(`Parameter '${key}' belongs to '${owners.join("', '")}', not '${backend}'`)
    }
  }
  const made: ChardevSettings = {
    backend,
    mux: parseBool(values.get('mux') ?? 'off', 'mux'),
    signal: parseBool(values.get('signal') ?? 'on', 'signal'),
    at,
  }
  if (backend === 'file') {
    made.path = requiredPath(values)
    made.append = parseBool(values.get('append') ?? 'off', 'append')
  }
  if (backend === 'socket') takeSocket(made, values)
  if (backend === 'ringbuf') made.size = ringbufSize(values.get('size'))
  settings.chardevs.set(id, made)
}

function backendOf(values: ReadonlyMap<string, string>): (typeof BACKENDS)[number] {
  return choice(values.get('backend') ?? '', BACKENDS, 'is not a valid char driver:')
}

/** @throws CliError for what QEMU does not take as the name of something either */
export function checkId(id: string): void {
  if (/^[a-z][a-z0-9._-]*$/i.test(id)) return
  throw new CliError(
    `Parameter 'id' expects an identifier (letters, digits, '-', '.', '_', beginning with a ` +
      `letter), not '${id}'`,
  )
}

function requiredPath(values: ReadonlyMap<string, string>): string {
  const path = values.get('path')
  if (path === undefined || path === '') throw new CliError("Parameter 'path' is missing")
  return path
}

/** @throws CliError for a path that an address of a socket has no room for */
export function checkSocketPath(path: string): void {
  if (Buffer.byteLength(path) <= MAX_PATH_BYTES) return
  throw new CliError(
    `UNIX socket path '${path}' is too long; it must be less than ${MAX_PATH_BYTES + 1} bytes`,
  )
}

function takeSocket(made: ChardevSettings, values: ReadonlyMap<string, string>): void {
  made.server = parseBool(values.get('server') ?? 'off', 'server')
  const fd = values.get('fd')
  if (fd === undefined) {
    made.path = requiredPath(values)
    checkSocketPath(made.path)
  } else {
    if (values.has('path')) throw new CliError("Parameters 'path' and 'fd' exclude each other")
    if (!made.server) throw new CliError("'fd' is a listening socket: it needs 'server=on'")
    made.fd = inheritedFd(fd)
  }
  if (!made.server && values.has('wait')) {
    throw new CliError("'wait' option is incompatible with socket in client connect mode")
  }
  if (made.server && values.has('reconnect')) {
    throw new CliError("'reconnect' option is incompatible with socket in server listen mode")
  }
  made.wait = made.server && parseBool(values.get('wait') ?? 'on', 'wait')
  made.reconnect = reconnectSeconds(values.get('reconnect') ?? '0')
}

/** Standard streams are not sockets of a monitor. */
function inheritedFd(text: string): number {
  const fd = /^[0-9]{1,7}$/.test(text) ? Number(text) : -1
  if (fd > 2) return fd
  throw new CliError(`Parameter 'fd' expects the number of an open file above 2, not '${text}'`)
}

function reconnectSeconds(text: string): number {
  const seconds = /^[0-9]+$/.test(text) ? Number(text) : Number.NaN
  if (seconds <= MAX_RECONNECT_SECONDS) return seconds
  throw new CliError(
    `Parameter 'reconnect' expects a number of seconds from 0 to ${MAX_RECONNECT_SECONDS}, ` +
      `not '${text}'`,
  )
}

/** @throws CliError for a size that a ringbuf cannot have */
export function ringbufSize(text: string | undefined): number {
  const size = text === undefined ? RINGBUF_BYTES : parseSize(text, 'B', 'size')
  if (size < 1 || size > MAX_RINGBUF_BYTES || (size & (size - 1)) !== 0) {
    throw new CliError(
      `size of ringbuf chardev must be power of two, at most ${MAX_RINGBUF_BYTES} bytes, ` +
        `not '${text}'`,
    )
  }
  return size
}
