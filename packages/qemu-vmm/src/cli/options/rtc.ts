import { CliError } from '../cli-error.ts'
import { choice, keyvalOption } from '../option.ts'
import type { OptionSpec } from '../option.ts'

const DATE = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2})?$/

/** `-rtc`: what the real-time clock shows at the start. */
export const rtc: OptionSpec = keyvalOption({
  name: 'rtc',
  argument: '[base=utc|localtime|datetime][,clock=host|rt|vm][,driftfix=none|slew]',
  help: ['what the real-time clock shows at the start, and what it follows then'],
  keys: [
    {
      name: 'base',
      value: 'base',
      help: 'utc (the default), localtime of the host, or a time such as 2006-06-17T16:01:21 or 2006-06-17',
    },
    {
      name: 'clock',
      value: 'host|rt|vm',
      help: "what it follows: the host's time of day (default), its steady clock, or the guest's time",
    },
    {
      name: 'driftfix',
      value: 'none|slew',
      help: 'slew: periodic interrupts that the guest was too late for follow (default: none)',
    },
  ],
  take(settings, values) {
    const clocks = ['host', 'rt', 'vm'] as const
    const clock = values.get('clock')
    if (clock !== undefined) {
      settings.machineOptions.rtcClock = choice(clock, clocks, 'invalid option value')
    }
    const fix = values.get('driftfix')
    if (fix !== undefined) {
      const fixes = ['none', 'slew'] as const
      settings.machineOptions.rtcDriftFix = choice(fix, fixes, 'Invalid driftfix')
    }
    const base = values.get('base') ?? 'utc'
    settings.machineOptions.rtcBase =
      base === 'utc' || base === 'localtime' ? base : parseTime(base)
  },
})

function parseTime(text: string): number {
  const whole = text.includes('T') ? `${text}Z` : `${text}T00:00:00Z`
  const ms = DATE.test(text) ? Date.parse(whole) : Number.NaN
  // 30 February is another day for Date.
  const isReal = ms >= 0 && new Date(ms).toISOString().startsWith(whole.slice(0, -1))
  if (isReal) return ms
  throw new CliError(
    `invalid datetime format '${text}' (valid formats: '2006-06-17T16:01:21' or '2006-06-17')`,
  )
}
