/**
 * Processors as a sorted list of ranges, `0-3,6`, from a list in which `^2` takes one out again.
 * Undefined when the text is none, or names a processor above the limit.
 */
export function normaliseCpuset(text: string, most: number = 1 << 15): string | undefined {
  const chosen = new Set<number>()
  for (const part of text.split(',')) {
    const match = /^\s*(\^?)(\d+)(?:-(\d+))?\s*$/.exec(part)
    if (match === null) return undefined
    const [, not, first, last] = match
    const from = Number(first)
    const to = last === undefined ? from : Number(last)
    if (to < from || to > most || (not === '^' && last !== undefined)) return undefined
    for (let cpu = from; cpu <= to; cpu++) {
      if (not === '^') chosen.delete(cpu)
      else chosen.add(cpu)
    }
  }
  return chosen.size === 0 ? undefined : formatRanges([...chosen].toSorted((a, b) => a - b))
}

function formatRanges(sorted: readonly number[]): string {
  const ranges: string[] = []
  for (let i = 0; i < sorted.length; i++) {
    const from = sorted[i] ?? 0
    let to = from
    while (sorted[i + 1] === to + 1) {
      to++
      i++
    }
    ranges.push(from === to ? `${from}` : `${from}-${to}`)
  }
  return ranges.join(',')
}
