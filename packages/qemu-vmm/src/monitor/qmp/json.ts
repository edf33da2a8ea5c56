/** The text of a value. `bigint`s become numbers, which QEMU's 64-bit ones may be. */
export function formatJson(value: unknown, indent?: number): string {
  return hasBigint(value)
    ? write(value, indent === undefined ? '' : '\n', ' '.repeat(indent ?? 0))
    : JSON.stringify(value, undefined, indent)
}

function hasBigint(value: unknown): boolean {
  if (typeof value === 'bigint') return true
  return typeof value === 'object' && value !== null && Object.values(value).some(hasBigint)
}

function write(value: unknown, line: string, step: string): string {
  if (typeof value === 'bigint') return String(value)
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const next = line === '' ? '' : line + step
  const [open, close] = Array.isArray(value) ? ['[', ']'] : ['{', '}']
  const members = Array.isArray(value)
    ? value.map((item) => write(item, next, step))
    : Object.entries(value)
        .filter(([, item]) => item !== undefined)
        .map(([key, item]) => {
          const space = line === '' ? '' : ' '
          return `${JSON.stringify(key)}:${space}${write(item, next, step)}`
        })
  if (members.length === 0) return open + close
  return open + next + members.join(`,${next}`) + line + close
}
