import type { AddressSpace } from './address-space.ts'
import type { Bus } from './bus.ts'

/** Messages per second; a guest in a loop must not drown whoever reads them. */
const MAX_PER_SECOND = 1000

/** Logs what the guest does wrong: accesses to ports and memory where nothing answers. */
export function logGuestErrors(
  bus: Bus,
  log: (message: string) => void,
  nowMs: () => number = () => performance.now(),
): void {
  let second = -1
  let inSecond = 0
  const limited = (message: string): void => {
    const now = Math.floor(nowMs() / 1000)
    if (now !== second) {
      const lost = inSecond - MAX_PER_SECOND
      if (lost > 0) log(`guest_errors: ${lost} more accesses were not logged`)
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
  watch(bus.pio, 'a port')
  watch(bus.mmio, 'an address')
}
