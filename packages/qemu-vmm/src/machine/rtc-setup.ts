import type { RtcOptions } from '../chipset/rtc.ts'
import type { Clock } from '../device.ts'
import type { MachineConfig } from './config.ts'

/** What drives the real-time clock. */
export function rtcOptions({ machine }: Pick<MachineConfig, 'machine'>, clock: Clock): RtcOptions {
  const { rtcClock = 'host', rtcDriftFix = 'none' } = machine?.options ?? {}
  const catchesUp = rtcDriftFix === 'slew'
  switch (rtcClock) {
    case 'host':
      return { catchesUp }
    case 'rt':
      // Goes on whatever somebody sets the host's clock to.
      return { catchesUp, timeMs: () => performance.timeOrigin + performance.now() }
    case 'vm':
      return { catchesUp, timeMs: () => clock.nowNs() / 1e6 }
  }
}

/** What the real-time clock shows at the start, unless it is what it shows anyway. */
export function rtcStart(
  { machine }: Pick<MachineConfig, 'machine'>,
  clock: Clock,
): number | undefined {
  const { rtcBase = 'utc', rtcClock = 'host' } = machine?.options ?? {}
  const nowMs = clock.wallMs()
  if (rtcBase === 'utc') return rtcClock === 'host' ? undefined : nowMs
  if (rtcBase !== 'localtime') return rtcBase
  return nowMs - new Date(nowMs).getTimezoneOffset() * 60_000
}
