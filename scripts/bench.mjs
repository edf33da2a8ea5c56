// npm run bench: all benchmarks, or those that are named; --quick measures less often, and
// --items=ITEM,... chooses items of the benchmark "engine".
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { build } from './build.mjs'
import { bootGuest, engineGuest, firmwareGuest, programsGuest } from './guests.mjs'
import { bin, root } from './lib/paths.mjs'
import { script } from './lib/run.mjs'
import { newerPeer } from './newer-peer.mjs'
import { peers } from './peers.mjs'

await script(async () => {
  await build()
  await firmwareGuest()
  await bootGuest()
  const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'))
  if (named.length === 0 || named.includes('engine')) {
    await engineGuest()
    await programsGuest()
    await newerPeer()
  }
  await peers()
  const main = join(root, 'bench/src/main.ts')
  const { status } = spawnSync(bin('tsx'), [main, ...process.argv.slice(2)], { stdio: 'inherit' })
  return status ?? 128
})
