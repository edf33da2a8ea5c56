/**
 * How many single edits (insert, delete, replace, swap of neighbours) lead from one word to the
 * other: the optimal string alignment distance.
 */
function editDistance(a: string, b: string): number {
  let beforePrevious: number[] = []
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const row = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1]
      let cost = Math.min(
        (previous[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + 1,
        (previous[j - 1] ?? 0) + (same ? 0 : 1),
      )
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, (beforePrevious[j - 2] ?? 0) + 1)
      }
      row.push(cost)
    }
    beforePrevious = previous
    previous = row
  }
  return previous[b.length] ?? 0
}

/** The word that a mistyped one most likely means: at most a third of it may differ. */
export function nearest(word: string, candidates: Iterable<string>): string | undefined {
  // A word of that length is no typing error, and the distance costs time that grows with it.
  if (word.length === 0 || word.length > 64) return undefined
  const lower = word.toLowerCase()
  let best: string | undefined
  let bestScore = Math.max(1, Math.floor(word.length / 3)) + 1
  for (const candidate of candidates) {
    const other = candidate.toLowerCase()
    const begins = lower.length >= 2 && other.startsWith(lower)
    const score = begins ? 0.5 : editDistance(lower, other)
    if (score < bestScore && score < Math.max(word.length, other.length)) {
      best = candidate
      bestScore = score
    }
  }
  return best
}

/** `; did you mean "x"?`, or nothing when no candidate is near. */
export function didYouMean(word: string, candidates: Iterable<string>): string {
  const near = nearest(word, candidates)
  return near === undefined ? '' : `; did you mean "${near}"?`
}
