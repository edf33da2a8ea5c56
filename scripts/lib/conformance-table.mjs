// From the TAP output of the conformance suite to a table with a row per test and a column per engine.

const engines = ['soft', 'host']
const line = /^(not )?ok \d+ - (?:.* › )?(soft|host): ([^:]+): (.*?)(?: # (SKIP|TODO).*)?$/

/**
 * @param {string} tap
 * @returns {string} Markdown; an engine that did not open has empty cells.
 */
export function conformanceTable(tap) {
  /** @type {Map<string, Map<string, string>>} */
  const rows = new Map()
  for (const text of tap.split('\n')) {
    const found = line.exec(text.trimEnd())
    if (found === null) continue
    const [, failed, engine, subject, title, skipped] = found
    const key = `${subject} | ${title}`
    const row = rows.get(key) ?? new Map()
    row.set(engine, skipped === undefined ? (failed === undefined ? 'yes' : 'NO') : 'skipped')
    rows.set(key, row)
  }
  const out = [
    `| subject | what | ${engines.join(' | ')} |`,
    `|---|---|${'---|'.repeat(engines.length)}`,
  ]
  for (const key of [...rows.keys()].toSorted()) {
    out.push(
      `| ${key} | ${engines.map((engine) => rows.get(key)?.get(engine) ?? '').join(' | ')} |`,
    )
  }
  /** @param {string} engine */
  const total = (engine) => [...rows.values()].filter((row) => row.get(engine) === 'yes').length
  out.push(
    '',
    engines.map((engine) => `${engine}: ${total(engine)} of ${rows.size} passed`).join(', '),
  )
  return `${out.join('\n')}\n`
}
