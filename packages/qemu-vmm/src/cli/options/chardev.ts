import type { UdpAddresses } from '../../chardev/address.ts'
import { CliError } from '../cli-error.ts'
import { parseBool } from '../keyval.ts'
import { choice, keyvalOption } from '../option.ts'
import type { OptionSpec } from '../option.ts'
import type { ChardevBackend, ChardevSettings, Settings } from '../settings.ts'
import { parseSize } from '../size.ts'
import { SOCKET_KEYS, SOCKET_REFUSED, inetOf, portNumber, socketOf } from './chardev-socket.ts'

/** What there is. */
export const BACKENDS: readonly ChardevBackend[] = [
  'file',
  'null',
  'pipe',
  'pty',
  'ringbuf',
  'socket',
  'stdio',
  'udp',
]
const RINGBUF_BYTES = 64 * 1024
const MAX_RINGBUF_BYTES = 64 * 1024 * 1024
/** Which backends have a key; other keys belong to all of them, and those of sockets to sockets. */
const OWNERS: Readonly<Record<string, readonly ChardevBackend[]>> = {
  ...Object.fromEntries(SOCKET_KEYS.map(({ name }) => [name, ['socket']])),
  signal: ['stdio'],
  path: ['file', 'pipe', 'socket'],
  append: ['file'],
  size: ['ringbuf'],
  host: ['socket', 'udp'],
  port: ['socket', 'udp'],
  ipv4: ['socket', 'udp'],
  ipv6: ['socket', 'udp'],
  localaddr: ['udp'],
  localport: ['udp'],
}

/** `-chardev`. */
export const chardev: OptionSpec = keyvalOption({
  name: 'chardev',
  argument: `[backend=]${BACKENDS.join('|')},id=id[,key=value...]`,
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
    {
      name: 'path',
      value: 'file',
      help: 'file: where to write; socket: its name in the file system; pipe: one, or path.in and path.out',
    },
    ...SOCKET_KEYS,
    { name: 'localaddr', value: 'host', help: 'udp: where to receive (default: every interface)' },
    { name: 'localport', value: 'number', help: 'udp: the port to receive at (default: any)' },
    { name: 'append', value: 'on|off', help: 'file: keep what is there (default: off)' },
    {
      name: 'size',
      value: 'size',
      help: 'ringbuf: how many bytes are kept, a power of two (default: 64k)',
    },
  ],
  refused: SOCKET_REFUSED,
  owner: (values) => {
    if (values.has('backend')) backendOf(values)
    return 'chardev'
  },
  list: () => ['Available chardev backend types:', ...BACKENDS.map((b) => `  ${b}`)].join('\n'),
  take: takeChardev,
})

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
  if (backend === 'pipe') made.path = requiredPath(values)
  if (backend === 'socket') made.socket = socketOf(values)
  if (backend === 'udp') made.udp = udpOf(values)
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

/**
 * Where datagrams go to, and where they are received; no host is this one.
 * @throws CliError
 */
export function udpOf(values: ReadonlyMap<string, string>): UdpAddresses {
  const remote = inetOf(values, false)
  const host = values.get('localaddr') ?? ''
  const port = portNumber(values.get('localport') ?? '0', 'localport', 0)
  return { remote: { ...remote, host: remote.host || 'localhost' }, local: { host, port } }
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
