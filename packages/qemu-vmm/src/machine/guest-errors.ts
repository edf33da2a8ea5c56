import type { AddressSpace } from './address-space.ts'
import type { Bus } from './bus.ts'
import type { LogItem } from './config.ts'

/** Messages per second; a guest in a loop must not drown whoever reads them. */
const MAX_PER_SECOND = 1000

/**
 * Logs what the guest does that is in vain. `guest_errors`: accesses to ports and memory where nothing
 * answers. `unimp`: commands and registers that a device here does not have.
 */
export function logGuestErrors(
  bus: Bus,
  items: readonly LogItem[],
  log: (message: string) => void,
  nowMs: () => number = () => performance.now(),
): void {
  let second = -1
  let inSecond = 0
  const limited = (message: string): void => {
    const now = Math.floor(nowMs() / 1000)
    if (now !== second) {
      const lost = inSecond - MAX_PER_SECOND
      if (lost > 0) log(`${items.join(', ')}: ${lost} more messages were not logged`)
      second = now
      inSecond = 0
    }
    if (++inSecond <= MAX_PER_SECOND) log(message)
  }
  const watch = (space: AddressSpace, place: string): void => {
    space.onUnclaimed = (operation, address, size) =>
      limited(
        `guest_errors: ${operation} of ${size} bytes at 0x${address.toString(16)}, ` +
          `${place} that nothing answers`,
      )
  }
  if (items.includes('guest_errors')) {
    watch(bus.pio, 'a port')
    watch(bus.mmio, 'an address')
  }
  if (items.includes('unimp')) bus.onUnknown = (message) => limited(`unimp: ${message}`)
}
