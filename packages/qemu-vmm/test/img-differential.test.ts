import { existsSync, mkdirSync, renameSync } from 'node:fs'
import test from 'ava'
import { checkFile, openImage } from '../src/block/index.ts'
import { peer, temporary, tool } from './support/disks.ts'
import { own, peers } from './support/image-sides.ts'
import { planOf } from './support/image-steps.ts'
import type { Step } from './support/image-steps.ts'
import { random } from './support/random.ts'

// The same random steps through our code and through Debian's programs, each on images of its own, that
// change hands in between. SEED=N runs one of them.
const compared = peer ? test.serial : test.skip
const given = process.env['SEED']
const LONG = process.env['LONG'] === '1'
const RUNS_IN_A_TEST = LONG ? 10 : 5
const TESTS = given === undefined ? (LONG ? 60 : 4) : 1

/** What the disk holds, by our reading. */
async function contents(filename: string): Promise<Uint8Array> {
  const node = await openImage({ filename, format: 'qcow2', readonly: true })
  try {
    const bytes = new Uint8Array(node.sizeBytes)
    await node.readv(0, [bytes])
    return bytes
  } finally {
    await node.close()
  }
}

async function oneRun(seed: number, path: (name: string) => string): Promise<void> {
  const { setup, steps } = planOf(random(seed))
  const [mine, theirs, aside] = ['mine', 'theirs', 'aside'].map((name) =>
    path(`${name}-${seed}`),
  ) as [string, string, string]
  mkdirSync(mine)
  mkdirSync(theirs)
  const trail: string[] = []
  const fail = (what: string): never => {
    throw new Error(`SEED=${seed}: ${what}\n${trail.join('\n')}`)
  }
  const step = async (one: Step): Promise<void> => {
    trail.push(JSON.stringify(one))
    if ('swap' in one) {
      for (const [from, to] of [
        [mine, aside],
        [theirs, mine],
        [aside, theirs],
      ] as const) {
        renameSync(from, to)
      }
    } else if ('io' in one) {
      await own.io(mine, one.io)
      await peers.io(theirs, one.io)
    } else {
      const worked = await own.img(mine, one.img)
      if (worked !== (await peers.img(theirs, one.img))) fail(`only one could (ours: ${worked})`)
    }
  }
  try {
    for (const one of [...setup, ...steps]) await step(one)
  } catch (error) {
    fail(String(error))
  }
  const [left, right] = [await contents(`${mine}/top`), await contents(`${theirs}/top`)]
  const at = left.findIndex((byte, i) => byte !== right[i])
  if (at >= 0 || left.length !== right.length) fail(`contents differ at ${at}`)
  const same = tool('qemu-img', 'compare', `${mine}/top`, `${theirs}/top`)
  if (same.status !== 0) fail(`qemu-img compare: ${same.stdout}${same.stderr}`)
  for (const folder of [mine, theirs]) {
    for (const name of ['top', 'base', 'other']) {
      const image = `${folder}/${name}`
      const { status, stdout, stderr } = tool('qemu-img', 'check', image)
      if (status !== 0 && status !== 63) fail(`qemu-img check ${image}: ${stdout}${stderr}`)
      if (status === 63 || !existsSync(image)) continue
      const { corruptions, leaks, checkErrors } = await checkFile(image, 'qcow2')
      if (corruptions + leaks + checkErrors > 0) fail(`our check of ${image} finds something`)
    }
  }
}

for (let part = 0; part < TESTS; part++) {
  compared(`both programs make the same of random steps (${part + 1})`, async (t) => {
    t.timeout(600_000)
    const path = temporary(t)
    const first = given === undefined ? part * RUNS_IN_A_TEST : Number(given)
    const end = given === undefined ? first + RUNS_IN_A_TEST : first + 1
    for (let seed = first; seed < end; seed++) await oneRun(seed, path)
    t.pass()
  })
}
