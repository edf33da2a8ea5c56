import { CliError } from '../cli-error.ts'
import { choice, keyvalOption } from '../option.ts'
import type { OptionSpec } from '../option.ts'

const DATE = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2})?$/

/** `-rtc`: what the real-time clock shows at the start. */
export const rtc: OptionSpec = keyvalOption({
  name: 'rtc',
  argument: '[base=utc|localtime|datetime][,clock=host]',
  help: ['what the real-time clock shows at the start; it follows the clock of the host'],
  keys: [
    {
      name: 'base',
      value: 'base',
      help: 'utc (the default), localtime of the host, or a time such as 2006-06-17T16:01:21 or 2006-06-17',
    },
    { name: 'clock', value: 'host', help: 'what it follows' },
  ],
  take(settings, values) {
    choice(values.get('clock') ?? 'host', ['host'], 'unsupported value of clock')
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
