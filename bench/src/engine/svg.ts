// A bar chart of ratios, as SVG: on a logarithmic scale, because twice as fast and half as fast are equally far from 1.

/** One row of the chart. */
export interface Bar {
  readonly label: string
  /** Must be positive. */
  readonly value: number
  /** A mean, drawn apart from what it is the mean of. */
  readonly mean?: boolean
}

/** What is drawn. */
export interface Chart {
  readonly title: string
  /** One line of smaller text below the title. */
  readonly note: string
  readonly bars: readonly Bar[]
  /** A value to reach, drawn as a line. */
  readonly aim?: number
}

const width = 760
const left = 150
const right = 70
const top = 64
const row = 22
const colors = {
  faster: '#2f7d5b',
  slower: '#b5482f',
  mean: '#34495e',
  grid: '#d8dee4',
  text: '#24292f',
  aim: '#8a63d2',
} as const

const escape = (text: string): string =>
  text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')

const short = (value: number): string => String(Number(value.toPrecision(3)))

/** A number of the drawing: tenths are more than anybody sees. */
const at = (value: number): string => String(Math.round(value * 10) / 10)

/** Powers of two that enclose all values and 1. */
export function range(values: readonly number[]): { low: number; high: number } {
  const logs = [0, ...values].map((value, index) => (index === 0 ? 0 : Math.log2(value)))
  const low = Math.min(-1, Math.floor(Math.min(...logs)))
  return { low, high: Math.max(1, Math.ceil(Math.max(...logs))) }
}

function text(x: number, y: number, content: string, more = ''): string {
  return `<text x="${at(x)}" y="${at(y)}"${more}>${escape(content)}</text>`
}

function line(x: number, height: number, more: string): string {
  return `<line x1="${at(x)}" y1="${top - 8}" x2="${at(x)}" y2="${at(height)}" ${more}/>`
}

/**
 * Draws the chart.
 * @throws RangeError for a value that has no logarithm
 */
export function barChart({ title, note, bars, aim }: Chart): string {
  const wrong = bars.find(({ value }) => !(value > 0 && Number.isFinite(value)))
  if (wrong) throw new RangeError(`${wrong.label} is ${wrong.value}, which no bar can show`)
  const { low, high } = range([...bars.map(({ value }) => value), ...(aim ? [aim] : [])])
  const scale = (value: number): number =>
    left + ((Math.log2(value) - low) / (high - low)) * (width - left - right)
  const bottom = top + bars.length * row + 4
  const height = bottom + 26
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12" fill="${colors.text}">`,
    `<title>${escape(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    text(12, 22, title, ' font-size="15" font-weight="bold"'),
    text(12, 40, note, ' font-size="11"'),
  ]
  // At most ten lines, or their labels touch.
  const step = Math.ceil((high - low) / 10)
  for (let power = low; power <= high; power++) {
    if (power % step !== 0) continue
    const x = scale(2 ** power)
    parts.push(line(x, bottom, `stroke="${colors.grid}"`))
    const label = power < 0 ? `1/${2 ** -power}` : String(2 ** power)
    parts.push(text(x, bottom + 16, label, ' text-anchor="middle" font-size="11"'))
  }
  for (const [index, { label, value, mean }] of bars.entries()) {
    const y = top + index * row
    const from = scale(Math.min(1, value))
    const long = Math.max(0.5, scale(Math.max(1, value)) - from)
    const fill = mean ? colors.mean : value >= 1 ? colors.faster : colors.slower
    const weight = mean ? ' font-weight="bold"' : ''
    parts.push(
      text(left - 8, y + 13, label, ` text-anchor="end"${weight}`),
      `<rect x="${at(from)}" y="${y + 3}" width="${at(long)}" height="${row - 8}" fill="${fill}"/>`,
      text(scale(Math.max(1, value)) + 5, y + 13, short(value), weight),
    )
  }
  parts.push(line(scale(1), bottom, `stroke="${colors.text}" stroke-width="1.5"`))
  if (aim) parts.push(line(scale(aim), bottom, `stroke="${colors.aim}" stroke-dasharray="4 3"`))
  return `${[...parts, '</svg>'].join('\n')}\n`
}
