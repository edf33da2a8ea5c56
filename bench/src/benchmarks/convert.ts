// `qemu-img convert` of a disk of 4 GiB that is half full, qcow2 to raw and raw to qcow2, beside QEMU's program.
import { spawnSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import { ownImageCommand } from '../lib/guest-process.ts'
import { paired, repeated, rounded } from '../lib/paired.ts'

const diskMib = 4096
/** Data and holes by turns, each so long. */
const runMib = 8

/** Without the commands of packages, of which one is a qemu-img too. */
const PATH = (process.env['PATH'] ?? '')
  .split(':')
  .filter((folder) => !folder.includes('node_modules'))
  .join(':')

function call(command: string, args: readonly string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, PATH },
  })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error ?? stdout + stderr}`)
  return stdout
}

/** MiB of disk in a second, the start of the program included. */
function speed(command: string, args: readonly string[], target: string): number {
  rmSync(target, { force: true })
  // What the last one wrote is not this one's work.
  call('sync', [])
  const start = performance.now()
  call(command, ['convert', ...args, target])
  return diskMib / ((performance.now() - start) / 1000)
}

function peerInstalled(): boolean {
  return spawnSync('qemu-img', ['--version'], { env: { ...process.env, PATH } }).status === 0
}

export const name = 'convert'

export async function run(effort: Effort): Promise<Results> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-convert-'))
  try {
    const raw = join(folder, 'disk.raw')
    fill(raw)
    const qcow2 = join(folder, 'disk.qcow2')
    call(ownImageCommand, ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2])
    const target = join(folder, 'target')
    const results: Results = {}
    const ways = [
      ['qcow2ToRaw', ['-f', 'qcow2', '-O', 'raw', qcow2]],
      ['rawToQcow2', ['-f', 'raw', '-O', 'qcow2', raw]],
    ] as const
    for (const [way, args] of ways) {
      progress(way)
      const own = (): Promise<number> => Promise.resolve(speed(ownImageCommand, args, target))
      if (!peerInstalled()) {
        progress('the peer is not installed: no ratio')
        results[`${way}OwnMibPerSecond`] = rounded(await repeated(own, effort))
        continue
      }
      const peer = (): Promise<number> => Promise.resolve(speed('qemu-img', args, target))
      const pair = await paired({ own, peer }, effort)
      results[`${way}OwnMibPerSecond`] = rounded(pair.own)
      results[`${way}PeerMibPerSecond`] = rounded(pair.peer)
      results[`${way}SpeedRatio`] = rounded(pair.ratio)
      speed(ownImageCommand, args, target)
      call('qemu-img', ['compare', raw, target])
    }
    return results
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Every sector of the data differs, so that no format stores less. */
function fill(path: string): void {
  const file = openSync(path, 'wx')
  const chunk = new Uint32Array(1 << 18)
  for (let mib = 0; mib < diskMib; mib++) {
    if (Math.floor(mib / runMib) % 2 === 1) continue
    for (let i = 0; i < chunk.length; i++) chunk[i] = Math.imul(mib * chunk.length + i, 0x9e37_79b1)
    writeSync(file, chunk, 0, chunk.byteLength, mib * 2 ** 20)
  }
  // The last part is a hole.
  writeSync(file, new Uint8Array(1), 0, 1, diskMib * 2 ** 20 - 1)
  closeSync(file)
}
