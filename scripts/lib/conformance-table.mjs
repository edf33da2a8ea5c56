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
  /** @type {() => void} what a remark after a test's line says of it */
  let remark = () => {}
  for (const text of tap.split('\n')) {
    if (/^#\s+not compared: /.test(text)) remark()
    const found = line.exec(text.trimEnd())
    if (found === null) continue
    const [, failed, engine, subject, title, skipped] = found
    const key = `${subject} | ${title}`
    const row = rows.get(key) ?? new Map()
    row.set(engine, skipped === undefined ? (failed === undefined ? 'yes' : 'NO') : 'skipped')
    rows.set(key, row)
    remark = () => row.set(engine, 'not compared')
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
  const size = rows.size
  out.push('', engines.map((engine) => `${engine}: ${total(engine)} of ${size} passed`).join(', '))
  return `${out.join('\n')}\n`
}
