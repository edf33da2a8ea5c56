import type { NetdevConfig } from './config.ts'
import type { OnConnect } from './user/decision.ts'

/** What decides on the connections of a guest, where the network asks somebody. */
export function connectHook(netdev: NetdevConfig): OnConnect | undefined {
  return netdev.type === 'user' ? netdev.onConnect : undefined
}

/** The description without it, which another thread can be sent. */
export function withoutConnectHook(netdev: NetdevConfig): NetdevConfig {
  if (netdev.type !== 'user') return netdev
  const { onConnect: _hook, ...rest } = netdev
  return rest
}
