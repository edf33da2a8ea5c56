import { type NetOption, badOption, boolOption, netOptions } from '../options.ts'
import type { TapNetConfig } from './config.ts'

export const TAP_KEYS: readonly string[] = ['ifname', 'fd', 'script', 'downscript', 'vhost']
/** What QEMU runs where nothing else is said. */
const SCRIPTS = { script: '/etc/qemu-ifup', downscript: '/etc/qemu-ifdown' } as const
const REFUSED = {
  fds: 'an interface has one queue',
  queues: 'an interface has one queue',
  vhostfd: 'the kernel does not carry frames past the devices',
  vhostfds: 'the kernel does not carry frames past the devices',
  vnet_hdr: 'headers are always used',
  sndbuf: 'the host has no limit',
  br: "use the type 'bridge', or put the interface into one yourself, as `ip link set tap0 master br0` does",
  helper: "use the type 'bridge', or make the interface yourself",
}
/** The longest name of an interface. */
const NAME_BYTES = 15

/**
 * What options of `-netdev tap` say.
 * @throws VmmError `E_NETDEV`
 */
export function parseTapOptions(id: string, options: readonly NetOption[]): TapNetConfig {
  const values = netOptions('tap', options, TAP_KEYS, REFUSED)
  if (boolOption(values, 'vhost', false)) {
    throw badOption(
      'vhost',
      "Parameter 'vhost' is not supported: the kernel does not carry frames past the devices",
    )
  }
  const [ifname, fd] = [values.get('ifname'), values.get('fd')]
  if (fd !== undefined) return { type: 'tap', id, fd: descriptor(values, fd) }
  if (ifname !== undefined) checkInterfaceName('ifname', ifname)
  const programs = (['script', 'downscript'] as const).flatMap((key) => {
    const path = values.get(key) ?? SCRIPTS[key]
    return path === 'no' || path === '' ? [] : [[key, path] as const]
  })
  return {
    type: 'tap',
    id,
    ...(ifname === undefined ? {} : { ifname }),
    ...Object.fromEntries(programs),
  }
}

function descriptor(values: ReadonlyMap<string, string>, text: string): number {
  const other = ['ifname', 'script', 'downscript'].find((key) => values.has(key))
  if (other !== undefined) {
    throw badOption(other, `${other}= is invalid with fd=: who opened the interface has set it up`)
  }
  return descriptorNumber('fd', text)
}

/** @throws VmmError `E_NETDEV` for what is no number of a descriptor */
export function descriptorNumber(key: string, text: string): number {
  const fd = /^\d{1,9}$/.test(text) ? Number(text) : -1
  if (fd > 2) return fd
  throw badOption(
    key,
    `Parameter '${key}' is '${text}': the number of a descriptor that the process was started with, from 3`,
  )
}

/** @throws VmmError `E_NETDEV` for what no interface can be called */
export function checkInterfaceName(key: string, name: string): void {
  const bytes = Buffer.byteLength(name)
  if (bytes > 0 && bytes <= NAME_BYTES && !/[/\s\0]/.test(name)) return
  throw badOption(
    key,
    `Parameter '${key}' is '${name}': a name of an interface has 1 to ${NAME_BYTES} bytes without spaces and slashes`,
  )
}
