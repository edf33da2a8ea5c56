// The lines that an item prints, and whether they can be believed.

/** What "result NAME NANOSECONDS CHECKSUM" says. */
export interface ItemResult {
  readonly name: string
  /** By the clock of the machine that ran it. */
  readonly seconds: number
  readonly sum: string
}

/** Matches the line that is printed when the clock starts. */
export const startLine = (name: string): RegExp => new RegExp(`(?:^|\\n)start ${name}\\r?\\n`)

/** Matches the line at the end. */
export const resultLine = (name: string): RegExp =>
  new RegExp(`(?:^|\\n)result ${name} \\d+ [\\da-f]{16}\\r?\\n`)

/**
 * Reads the result line out of what a console printed.
 * @throws Error when there is none
 */
export function parseResult(text: string): ItemResult {
  const match = /(?:^|\n)result (\S+) (\d+) ([\da-f]{16})\r?\n/.exec(text)
  if (!match) throw new Error(`no result in: ${text.trim().slice(-300)}`)
  const [, name = '', nanoseconds, sum = ''] = match
  return { name, seconds: Number(nanoseconds) / 1e9, sum }
}

/** Seconds for one MiB, or one operation, out of the machine-readable output of openssl speed. */
export function parseRate(text: string): number {
  // Bytes of a digest or cipher, or signatures of a public key, for each second.
  const bytes = Number(/\+F:\d+:[^:\s]+:([\d.]+)/.exec(text)?.[1])
  if (bytes > 0) return 2 ** 20 / bytes
  const signatures = Number(/\+F2:\d+:\d+:([\d.]+):/.exec(text)?.[1])
  if (signatures > 0) return 1 / signatures
  throw new Error(`no rate in: ${text.trim().slice(-300)}`)
}

/**
 * What is wrong with a guest's clock, or undefined. The lines reach the host late by some milliseconds, so that a short
 * interval may be off by them.
 * @param lines how many intervals were added up
 */
export function clockTrouble(guest: number, host: number, lines = 1): string | undefined {
  const allowed = host * 0.03 + Math.min(0.1 * lines, 0.06 + 0.02 * lines)
  if (Math.abs(guest - host) <= allowed) return undefined
  return `the guest's clock counted ${guest.toFixed(3)} s while the host's counted ${host.toFixed(3)} s`
}
