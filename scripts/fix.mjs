// npm run fix: everything that tools can put right by themselves.
import { bin, workspaces } from './lib/paths.mjs'
import { must, script } from './lib/run.mjs'
import { setup } from './setup.mjs'

await script(async () => {
  await setup()
  await must(bin('oxlint'), ['--fix'])
  await must(bin('oxfmt'), ['.'])
  for (const cwd of workspaces) await must('cargo', ['fmt', '--all'], { cwd })
})
