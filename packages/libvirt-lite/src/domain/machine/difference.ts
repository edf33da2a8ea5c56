/**
 * Where two plain values differ first: `drives[0].file`; undefined where they do not. A property that is undefined is as
 * good as absent; what is neither a plain object nor an array is compared by identity.
 */
export function difference(a: unknown, b: unknown, path: string = ''): string | undefined {
  if (Object.is(a, b)) return undefined
  if (Array.isArray(a) && Array.isArray(b)) {
    const length = Math.max(a.length, b.length)
    for (let i = 0; i < length; i++) {
      const found =
        i < a.length && i < b.length ? difference(a[i], b[i], `${path}[${i}]`) : `${path}[${i}]`
      if (found !== undefined) return found
    }
    return undefined
  }
  if (!isPlain(a) || !isPlain(b)) return path
  for (const key of new Set([...Object.keys(a), ...Object.keys(b)])) {
    const found = difference(a[key], b[key], path === '' ? key : `${path}.${key}`)
    if (found !== undefined) return found
  }
  return undefined
}

function isPlain(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === 'object' &&
    value !== null &&
    [Object.prototype, null].includes(Object.getPrototypeOf(value) as object | null)
  )
}
