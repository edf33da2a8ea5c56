// npm test: set-up, build, checks and all tests; the last line is "N passed, N failed".
// --long (npm run test:long) lets the tests that have a long form run it: they see LONG=1 in the environment.
import { build } from './build.mjs'
import { checks } from './check.mjs'
import {
  ataGuest,
  bootGuest,
  cardsGuest,
  firmwareGuest,
  ipxeGuest,
  ovmfGuest,
  programsGuest,
} from './guests.mjs'
import { bin, root, workspaces } from './lib/paths.mjs'
import { CargoCounter, TapCounter } from './lib/report.mjs'
import { Failure, run, script } from './lib/run.mjs'
import { peers } from './peers.mjs'
import { join } from 'node:path'

const total = { passed: 0, failed: 0 }
/** @type {string[]} */
const broken = []
const say = (/** @type {string} */ text) => process.stdout.write(`${text}\n`)

/**
 * One part of the whole, timed; what it throws is one failure.
 * @param {string} name
 * @param {() => Promise<{passed: number, failed: number}>} work
 */
async function stage(name, work) {
  say(`== ${name}`)
  const start = performance.now()
  let result = { passed: 0, failed: 1 }
  try {
    result = await work()
  } catch (error) {
    say(error instanceof Failure ? `error: ${error.message}` : String(error))
  }
  total.passed += result.passed
  total.failed += result.failed
  if (result.failed > 0) broken.push(name)
  const seconds = ((performance.now() - start) / 1000).toFixed(1)
  say(`== ${name}: ${result.passed} passed, ${result.failed} failed (${seconds} s)`)
  return result.failed === 0
}

/**
 * A test program; one that fails without a failed test counts as one failure.
 * @param {string} command @param {readonly string[]} args @param {string} cwd
 * @param {TapCounter | CargoCounter} counter
 */
async function suite(command, args, cwd, counter) {
  const onLine = (/** @type {string} */ line) => counter.see(line) && say(line)
  const code = await run(command, args, { cwd, onLine })
  if (code !== 0 && counter.failed === 0) {
    say(`${command} ended with exit code ${code}`)
    counter.failed++
  }
  return counter
}

/** For what the tests do without. @param {unknown} error */
function tell(error) {
  if (!(error instanceof Failure)) throw error
  say(error.message)
}

/** @param {() => Promise<unknown> | unknown} work that throws when it fails */
async function single(work) {
  const passed = (await work()) !== false
  return { passed: Number(passed), failed: Number(!passed) }
}

const ava = (/** @type {string} */ folder) => () =>
  suite(bin('ava'), ['--tap'], join(root, folder), new TapCounter())

await script(async () => {
  if (process.argv.includes('--long')) process.env['LONG'] = '1'
  if (await stage('build', () => single(build))) {
    const ready = await stage('guests', () =>
      single(async () => {
        await firmwareGuest()
        await ipxeGuest()
        await ovmfGuest()
        await bootGuest()
        await ataGuest()
        await cardsGuest()
        if (process.env['LONG']) await programsGuest().catch(tell)
      }),
    )
    // What it cannot have, the tests do without.
    say(`comparing with ${(await peers()) ?? 'nobody'}`)
    for (const check of checks) await stage(`check ${check.name}`, () => single(check.run))
    await stage('scripts', ava('.'))
    const cargoTest = ['test', '--workspace', '--locked', '--no-fail-fast']
    for (const cwd of workspaces) {
      await stage('crates', () => suite('cargo', cargoTest, cwd, new CargoCounter()))
    }
    await stage('kvm-core', ava('packages/kvm-core'))
    await stage('virtio', ava('packages/virtio'))
    await stage('qemu-vmm', ava('packages/qemu-vmm'))
    await stage('libvirt-lite', ava('packages/libvirt-lite'))
    await stage('bench', ava('bench'))
    if (ready) await stage('e2e', ava('e2e'))
  }
  if (broken.length > 0) say(`failed: ${broken.join(', ')}`)
  say(`${total.passed} passed, ${total.failed} failed`)
  return total.failed === 0 ? 0 : 1
})
