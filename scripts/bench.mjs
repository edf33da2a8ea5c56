// npm run bench: all benchmarks, or those that are named; --quick measures less often, and
// --items=ITEM,... chooses items of the benchmarks "engine", "fio" and "network".
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { build } from './build.mjs'
import { bootGuest, debianGuest, engineGuest, firmwareGuest, programsGuest } from './guests.mjs'
import { bin, root } from './lib/paths.mjs'
import { script } from './lib/run.mjs'
import { newerPeer } from './newer-peer.mjs'
import { peers } from './peers.mjs'

await script(async () => {
  await build()
  await firmwareGuest()
  await bootGuest()
  const named = process.argv.slice(2).filter((argument) => !argument.startsWith('-'))
  const wants = (/** @type {string[]} */ ...names) =>
    named.length === 0 || names.some((name) => named.includes(name))
  if (wants('network', 'fio')) await debianGuest()
  if (wants('engine')) {
    await engineGuest()
    await programsGuest()
    await newerPeer()
  }
  await peers()
  const main = join(root, 'bench/src/main.ts')
  const { status } = spawnSync(bin('tsx'), [main, ...process.argv.slice(2)], { stdio: 'inherit' })
  return status ?? 128
})
