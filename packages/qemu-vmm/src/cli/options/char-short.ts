import { CliError } from '../cli-error.ts'
import { keyvalMap, parseKeyval } from '../keyval.ts'
import type { ChardevSettings } from '../settings.ts'
import { hint } from '../suggest.ts'
import { SOCKET_KEYS, SOCKET_REFUSED, portNumber, socketOf } from './chardev-socket.ts'

/** What `-serial`, `-monitor` and their like take. */
const FORMS: readonly string[] = [
  'none',
  'null',
  'pty',
  'stdio',
  'mon:stdio',
  'file:PATH',
  'pipe:PATH',
  'unix:PATH',
  'tcp:HOST:PORT',
  'telnet:HOST:PORT',
  'udp:HOST:PORT',
  'chardev:ID',
]

/** The same as lines of help. */
export const FORMS_HELP: readonly string[] = [
  'none, null, pty, stdio, file:PATH, pipe:PATH, unix:PATH[,server=on][,wait=off],',
  'tcp:[HOST]:PORT or telnet:[HOST]:PORT[,server=on][,wait=off][,nodelay=on][,reconnect=SECONDS],',
  'udp:HOST:PORT[@[HOST]:PORT] or chardev:ID; with mon: in front of any but the first and last it is',
  'shared with the monitor',
]

const INET_KEYS = SOCKET_KEYS.map(({ name }) => name).filter(
  (name) => !['host', 'port', 'fd', 'abstract', 'tight', 'telnet'].includes(name),
)
const UNIX_KEYS = SOCKET_KEYS.map(({ name }) => name).filter(
  (name) => !['host', 'port', 'fd', 'to', 'ipv4', 'ipv6'].includes(name),
)
/** IPv6 addresses have brackets, as they have colons. */
const INET = /^(?:\[([^\]]*)\]|([^:]*)):([^:,@]*)$/

/**
 * The character device that a short form stands for; undefined for `none` and `chardev:ID`.
 * @throws CliError for what is none
 */
export function shortChardev(device: string, at: string): ChardevSettings | undefined {
  if (device === 'none') return undefined
  const [, mon, form = ''] = /^(mon:)?(.*)$/s.exec(device) ?? []
  const mux = mon !== undefined
  const [, kind = form, rest] = /^([a-z0-9]+):(.*)$/s.exec(form) ?? []
  if (rest === '') throw new CliError(`'${device}' lacks a name behind the colon`)
  if (kind === 'chardev' && rest !== undefined) {
    if (mux) throw new CliError("'mon:' needs a device of its own; use -mon and mux=on")
    return undefined
  }
  const made = (
    more: Partial<ChardevSettings> & Pick<ChardevSettings, 'backend'>,
  ): ChardevSettings => ({
    mux,
    signal: false,
    at,
    ...more,
  })
  if (rest === undefined) {
    // Shared with the monitor, the terminal passes Ctrl-C to the guest; alone, it ends the program.
    if (kind === 'stdio') return made({ backend: 'stdio', signal: !mux })
    if (kind === 'null' || kind === 'pty') return made({ backend: kind })
  } else {
    switch (kind) {
      case 'file':
        return made({ backend: 'file', path: rest, append: false })
      case 'pipe':
        return made({ backend: 'pipe', path: rest })
      case 'unix': {
        const keys = ['path', ...UNIX_KEYS]
        const syntax = { implied: 'path', keys, refused: SOCKET_REFUSED }
        return made({ backend: 'socket', socket: socketOf(keyvalMap(parseKeyval(rest, syntax))) })
      }
      case 'tcp':
      case 'telnet':
        return made({ backend: 'socket', socket: inetSocket(kind, rest, device) })
      case 'udp':
        return made({ backend: 'udp', udp: udpAddresses(rest, device) })
      default:
        break
    }
  }
  throw new CliError(`'${device}' is not a valid char driver${hint(device, FORMS)}`)
}

function inetSocket(
  kind: 'tcp' | 'telnet',
  text: string,
  device: string,
): ReturnType<typeof socketOf> {
  const comma = text.indexOf(',')
  const place = comma < 0 ? text : text.slice(0, comma)
  const syntax = { keys: INET_KEYS, refused: SOCKET_REFUSED }
  const values = keyvalMap(parseKeyval(comma < 0 ? '' : text.slice(comma + 1), syntax))
  const { host, port } = hostPort(place, device)
  values.set('host', host).set('port', port)
  if (kind === 'telnet') values.set('telnet', 'on')
  return socketOf(values)
}

/** `[HOST]:PORT[@[LOCALHOST]:LOCALPORT]`; no host is this one. */
function udpAddresses(text: string, device: string): NonNullable<ChardevSettings['udp']> {
  const [to = '', from, ...others] = text.split('@')
  if (others.length > 0) throw new CliError(`'${device}' has more than one '@'`)
  const remote = hostPort(to, device)
  const local = from === undefined ? { host: '', port: '0' } : hostPort(from, device)
  return {
    remote: { host: remote.host || 'localhost', port: portNumber(remote.port, 'port', 1) },
    local: { host: local.host, port: portNumber(local.port, 'localport', 0) },
  }
}

function hostPort(text: string, device: string): { host: string; port: string } {
  const match = INET.exec(text)
  if (match === null) {
    throw new CliError(`parse error: ${device}: '${text}' is not HOST:PORT, as in 127.0.0.1:4444`)
  }
  return { host: match[1] ?? match[2] ?? '', port: match[3] ?? '' }
}
