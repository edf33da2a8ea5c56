import type { Vcpu } from 'kvm-core'

import type { Bus } from './bus.ts'

/** How often it is asked; nothing tells of it. */
const PERIOD_MS = 200

/**
 * Tells with what the soft engine does not have: registers and instructions. Nothing is done where nobody
 * listens. The returned function tells the rest and ends it.
 */
export function watchRefusals(
  vcpus: readonly Pick<Vcpu, 'takeRefusals'>[],
  bus: Pick<Bus, 'onUnknown'>,
): () => void {
  const { onUnknown } = bus
  if (onUnknown === undefined) return () => {}
  const tell = (): void => {
    for (const [n, vcpu] of vcpus.entries()) {
      for (const what of vcpu.takeRefusals()) onUnknown(`cpu ${n}: ${what} is not implemented`)
    }
  }
  tell()
  const timer = setInterval(tell, PERIOD_MS)
  timer.unref()
  return () => {
    clearInterval(timer)
    tell()
  }
}
