// The address of a guest by DHCP.
import type { GuestProcess } from './guest.ts'

/** What udhcpc runs with an answer. */
const SCRIPT = [
  '[ "$1" = bound ] || exit 0',
  'ip addr add "$ip/24" dev "$interface"',
  'ip route add default via "$router"',
  'echo "$ip $router $dns"',
]

/** Has a guest's first card ask for an address and take it: address, router and name server, as far as they were told. */
export async function lease(guest: GuestProcess): Promise<string[]> {
  await guest.shell("echo '#!/bin/sh' >/tmp/s; chmod +x /tmp/s")
  // Line by line: the console would break longer ones.
  for (const line of SCRIPT) await guest.shell(`echo '${line}' >>/tmp/s`)
  await guest.shell('ip link set eth0 up')
  const said = await guest.shell('udhcpc -i eth0 -nqf -s /tmp/s 2>/dev/null')
  return said.trim().split(' ')
}
