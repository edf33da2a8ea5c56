import { existsSync } from 'node:fs'

import { VmmError } from '../../errors.ts'
import { type NativeTap, openTapByHelper, openTapInBridge } from '../../native/tap.ts'
import type { BridgeNetConfig } from './config.ts'

export const DEFAULT_BRIDGE = 'br0'
/** Where distributions put the program. */
const HELPERS = ['/usr/lib/qemu/qemu-bridge-helper', '/usr/libexec/qemu-bridge-helper'] as const
/** Errors of who has no right to make interfaces. */
const MISSING_RIGHT: readonly string[] = ['EPERM', 'EACCES']

/** Why there is none, and what helps. */
const REMEDIES: Readonly<Record<string, string>> = {
  EPERM:
    "making it needs CAP_NET_ADMIN, or QEMU's program that has it; install the package qemu-system-common and make its qemu-bridge-helper set-user-ID",
  EACCES: 'this user may not open /dev/net/tun',
  ENODEV: 'there is no such bridge; `ip link add NAME type bridge` makes one',
  EOPNOTSUPP: 'it is no bridge',
  EINVAL: 'it is no bridge',
  ENOENT: 'the host has no /dev/net/tun; load the module tun',
}

/**
 * Makes an interface in a bridge: by the program that `helper=` names, else by itself, else by QEMU's program.
 * @throws VmmError `E_NETDEV` that says what is missing; `E_NO_ADDON`
 */
export function openInBridge(config: BridgeNetConfig): { tap: NativeTap; detail: string } {
  const { br = DEFAULT_BRIDGE, helper } = config
  if (helper !== undefined) return byHelper(helper, br)
  try {
    return { tap: openTapInBridge(br), detail: `br=${br}` }
  } catch (error) {
    if (error instanceof VmmError) throw error
    const code = codeOf(error)
    const program = HELPERS.find((path) => existsSync(path))
    if (MISSING_RIGHT.includes(code) && program !== undefined) return byHelper(program, br)
    throw refused(br, `${code}: ${REMEDIES[code] ?? (error as Error).message}`, error)
  }
}

function byHelper(helper: string, br: string): { tap: NativeTap; detail: string } {
  try {
    return { tap: openTapByHelper(helper, br), detail: `helper=${helper},br=${br}` }
  } catch (error) {
    if (error instanceof VmmError) throw error
    const code = codeOf(error)
    const why: Readonly<Record<string, string>> = {
      EPROTO:
        "it ended without one and says why on standard error: it must be set-user-ID of root, and 'allow NAME' in /etc/qemu/bridge.conf",
      ENOENT: 'there is no such program; the package qemu-system-common has it',
      EACCES: 'this user may not run it',
      EAGAIN: 'it gave none in 20 seconds',
    }
    const reason = why[code] ?? (error as Error).message
    throw refused(br, `bridge helper ${helper} failed: ${code}: ${reason}`, error)
  }
}

function codeOf(error: unknown): string {
  return String((error as NodeJS.ErrnoException).code)
}

function refused(br: string, reason: string, cause: unknown): VmmError {
  return new VmmError('E_NETDEV', `could not make an interface in the bridge '${br}': ${reason}`, {
    fields: { br, errno: codeOf(cause) },
    cause,
  })
}
