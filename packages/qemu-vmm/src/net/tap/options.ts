import { type NetOption, badOption, boolOption, netOptions } from '../options.ts'
import type { TapNetConfig } from './config.ts'

export const TAP_KEYS: readonly string[] = ['ifname', 'script', 'downscript', 'vhost']
const REFUSED = {
  fd: 'an interface that was opened before cannot be given; use ifname',
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
  if (values.get('script') !== 'no') {
    throw badOption(
      'script',
      "scripts are not run: give 'script=no', and set the interface up yourself, as `ip link set tap0 up` does",
    )
  }
  const down = values.get('downscript') ?? 'no'
  if (down !== 'no')
    throw badOption('downscript', `script '${down}' is not run: give 'downscript=no'`)
  if (boolOption(values, 'vhost', false)) {
    throw badOption(
      'vhost',
      "Parameter 'vhost' is not supported: the kernel does not carry frames past the devices",
    )
  }
  const ifname = values.get('ifname')
  if (ifname === undefined) return { type: 'tap', id }
  checkInterfaceName('ifname', ifname)
  return { type: 'tap', id, ifname }
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
