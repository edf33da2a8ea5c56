// npm run check: everything that can be judged without running the project. Names as arguments choose some of them.
import { fileURLToPath } from 'node:url'
import { checkCrates } from './check/crates.mjs'
import { checkImports } from './check/imports.mjs'
import { checkSizes } from './check/size.mjs'
import { bin, root, workspaces } from './lib/paths.mjs'
import { Failure, log, run, script } from './lib/run.mjs'
import { setup } from './setup.mjs'

/**
 * @typedef {object} Check
 * @property {string} name
 * @property {() => Promise<boolean> | boolean} run prints what is wrong and returns whether all is well
 */

/** @type {readonly Check[]} */
export const checks = [
  { name: 'format', run: tool(bin('oxfmt'), ['--check', '.']) },
  { name: 'lint', run: tool(bin('oxlint'), ['--deny-warnings']) },
  { name: 'types', run: tool(bin('tsc'), ['-b']) },
  { name: 'imports', run: rule(checkImports) },
  { name: 'crates', run: rule(checkCrates) },
  { name: 'sizes', run: rule(checkSizes) },
  { name: 'rustfmt', run: cargo(['fmt', '--all', '--check']) },
  { name: 'clippy', run: cargo(clippy()) },
]

function clippy() {
  return ['clippy', '--workspace', '--all-targets', '--locked', '--quiet', '--', '-D', 'warnings']
}

/** @param {string} command @param {readonly string[]} args @param {string} [cwd] */
function tool(command, args, cwd = root) {
  return async () => (await run(command, args, { cwd })) === 0
}

/** @param {readonly string[]} args */
function cargo(args) {
  return async () => {
    let ok = true
    for (const cwd of workspaces) ok = (await run('cargo', args, { cwd })) === 0 && ok
    return ok
  }
}

/** @param {(root: string) => string[]} find */
function rule(find) {
  return () => {
    const problems = find(root)
    for (const problem of problems) log(problem)
    return problems.length === 0
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await script(async () => {
    await setup()
    const names = process.argv.slice(2)
    const unknown = names.find((name) => !checks.some((check) => check.name === name))
    if (unknown !== undefined) {
      throw new Failure(
        `no check is called ${unknown}: ${checks.map(({ name }) => name).join(', ')}`,
      )
    }
    let failed = 0
    for (const check of checks) {
      if (names.length > 0 && !names.includes(check.name)) continue
      log(`checking ${check.name}`)
      if (!(await check.run())) failed++
    }
    log(failed === 0 ? 'all is well' : `${failed} checks failed`)
    return failed === 0 ? 0 : 1
  })
}
