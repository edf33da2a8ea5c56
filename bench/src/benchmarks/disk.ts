// 256 MiB read by dd in the guest from a virtio-blk disk, raw and qcow2, beside QEMU's own translator.
import { mkdtempSync, rmSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Effort, type Results, progress } from '../lib/benchmark.ts'
import {
  GuestProcess,
  bootOptions,
  guestFiles,
  ownCommand,
  ownImageCommand,
  peerCommand,
  peerVersion,
  shellPrompt,
} from '../lib/guest-process.ts'
import { fillImage } from '../lib/fill-image.ts'
import { paired, repeated, rounded } from '../lib/paired.ts'

const memoryMib = 512
const imageMib = 256

/** MiB per second that dd reports, once the kernel runs and the image is in the host's cache. */
async function read(command: string, image: string, format: string): Promise<number> {
  const drive = `file=${image},if=virtio,format=${format},readonly=on`
  const options = ['-accel', 'tcg', ...bootOptions(memoryMib, guestFiles.diskInitrd)]
  const guest = new GuestProcess(command, [...options, '-drive', drive])
  try {
    await guest.expect(shellPrompt, 600)
    const start = performance.now()
    const text = await guest.shell('dd if=/dev/vda of=/dev/null bs=1M iflag=direct 2>&1', 600)
    const seconds = (performance.now() - start) / 1000
    if (!text.includes(`${imageMib}+0 records in`)) throw new Error(`dd said: ${text}`)
    return imageMib / seconds
  } finally {
    await guest.stop()
  }
}

export const name = 'disk'

export async function run(effort: Effort): Promise<Results> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-disk-'))
  try {
    const raw = join(folder, 'disk.raw')
    fillImage(raw, imageMib)
    const qcow2 = join(folder, 'disk.qcow2')
    const convert = ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2]
    const { status } = spawnSync(ownImageCommand, convert, { stdio: 'inherit' })
    if (status !== 0) throw new Error(`qemu-img ended with ${status}`)
    const results: Results = {}
    for (const [format, image] of [
      ['raw', raw],
      ['qcow2', qcow2],
    ] as const) {
      const own = (): Promise<number> => read(ownCommand, image, format)
      if (peerVersion() === undefined) {
        progress('the peer is not installed: no ratio')
        results[`${format}OwnMibPerSecond`] = rounded(await repeated(own, effort))
        continue
      }
      const peer = (): Promise<number> => read(peerCommand, image, format)
      const pair = await paired({ own, peer }, effort)
      results[`${format}OwnMibPerSecond`] = rounded(pair.own)
      results[`${format}TcgMibPerSecond`] = rounded(pair.peer)
      results[`${format}SpeedRatio`] = rounded(pair.ratio)
    }
    return results
  } finally {
    rmSync(folder, { recursive: true })
  }
}
