import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { checkFile, createImage, openImage } from '../src/block/index.ts'
import { peer, readAll, temporary, tool } from './support/disks.ts'
import { random } from './support/random.ts'
import { SECTORS, sectorsOf } from './support/rounds.ts'

const TESTS = process.env['LONG'] === '1' ? 10 : 1
const TIMES = 10
const writer = fileURLToPath(new URL('fixtures/image-writer.ts', import.meta.url))

/** Runs the writer until it has flushed so many rounds and a bit more; returns the last flushed one. */
function writeUntilKilled(filename: string, rounds: number, delayMs: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ['--import=tsx', writer, filename], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let text = ''
    child.stdout.on('data', (data: Buffer) => {
      text += data.toString()
      if (text.split('\n').length > rounds) setTimeout(() => child.kill('SIGKILL'), delayMs)
    })
    child.on('error', reject)
    child.on('close', () => resolve(Number(text.split('\n').at(-2) ?? 0)))
  })
}

for (let part = 0; part < TESTS; part++) {
  test.serial(
    `kill -9 in mid-write loses nothing that was flushed and breaks nothing (${part + 1})`,
    async (t) => {
      const path = temporary(t)
      const below = random(part + 1)
      for (let time = part * TIMES; time < (part + 1) * TIMES; time++) {
        const filename = path(`${time}.qcow2`)
        const clusterSize = [512, 4096, 65536][time % 3]!
        await createImage({ filename, format: 'qcow2', sizeBytes: 64 << 20, clusterSize })
        const flushed = await writeUntilKilled(filename, 3 + ((time * 7) % 20), below(12))
        t.true(flushed > 0)
        const result = await checkFile(filename, 'qcow2')
        t.is(result.corruptions + result.checkErrors, 0)
        if (peer) t.true([0, 3].includes(tool('qemu-img', 'check', filename).status!))
        const latest = new Map<number, number>()
        for (let round = 1; round <= flushed; round++) {
          for (const sector of sectorsOf(round)) latest.set(sector, round)
        }
        const node = await openImage({ filename, format: 'qcow2' })
        const words = new Uint32Array((await readAll(node)).buffer)
        await node.close()
        for (const [sector, round] of latest) {
          const value = words[sector * 1024]!
          // The round after the last flushed one may have got there too, whole or in part.
          if (value % SECTORS !== sector || Math.floor(value / SECTORS) < round) {
            t.fail(`sector ${sector} has ${value}, round ${round} was flushed`)
          }
        }
        await checkFile(filename, 'qcow2', { repair: 'leaks' })
        t.is((await checkFile(filename, 'qcow2')).leaks, 0)
      }
    },
  )
}
