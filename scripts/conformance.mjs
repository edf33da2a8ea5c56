// npm run conformance: runs the conformance suite of kvm-core and prints, as a Markdown table, what passed on which engine.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { conformanceTable } from './lib/conformance-table.mjs'
import { bin, root } from './lib/paths.mjs'
import { script } from './lib/run.mjs'

await script(() => {
  const { stdout, status } = spawnSync(bin('ava'), ['--tap', 'test/conformance/*.test.ts'], {
    cwd: join(root, 'packages/kvm-core'),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  process.stdout.write(conformanceTable(stdout))
  return Promise.resolve(status ?? 128)
})
