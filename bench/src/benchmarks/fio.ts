// fio in Debian on virtio-blk disks, raw and qcow2: random 4 KiB reads and writes, one and 32 at a time, and 1 MiB after another;
// beside QEMU's own translator. Items: raw, qcow2, and the jobs by their names.
import { mkdtempSync, rmSync } from 'node:fs'
import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Effort, Results } from '../lib/benchmark.ts'
import { type DebianGuest, Guests, type Side } from '../lib/debian-guest.ts'
import { fillImage } from '../lib/fill-image.ts'
import { ownImageCommand, peerVersion } from '../lib/guest-process.ts'
import { paired, repeated, rounded } from '../lib/paired.ts'

const imageMib = 512

/** A job: what fio is told, and which of its results counts. */
interface Job {
  readonly options: string
  readonly unit: 'Iops' | 'MibPerSecond'
  readonly write: boolean
}

const random = (rw: string, depth: number): Job => ({
  options: `--rw=${rw} --bs=4k --iodepth=${depth}`,
  unit: 'Iops',
  write: rw === 'randwrite',
})
const sequential = (rw: string): Job => ({
  options: `--rw=${rw} --bs=1M --iodepth=4`,
  unit: 'MibPerSecond',
  write: rw === 'write',
})
const jobs: Readonly<Record<string, Job>> = {
  read1: random('randread', 1),
  write1: random('randwrite', 1),
  read32: random('randread', 32),
  write32: random('randwrite', 32),
  seqRead: sequential('read'),
  seqWrite: sequential('write'),
}
const formats = ['raw', 'qcow2'] as const
/** In the order of `formats`, behind the disk that Debian is on. */
const devices = { raw: '/dev/vdb', qcow2: '/dev/vdc' } as const

export const name = 'fio'

export async function run(effort: Effort): Promise<Results> {
  const chosen = (names: readonly string[]): readonly string[] => {
    const some = names.filter((item) => effort.items?.includes(item))
    return some.length > 0 ? some : names
  }
  const known = [...formats, ...Object.keys(jobs)]
  const unknown = effort.items?.find((item) => !known.includes(item))
  if (unknown !== undefined) throw new Error(`there is no item '${unknown}': ${known.join(', ')}`)
  const sides: Side[] = peerVersion() === undefined ? ['own'] : ['own', 'peer']
  const folder = mkdtempSync(join(tmpdir(), 'bench-fio-'))
  const results: Results = {}
  let guests: Guests | undefined
  try {
    const options = (side: Side): string[] => disks(folder, side)
    guests = await Guests.boot(folder, sides, options, (guest) => guest.logIn())
    for (const format of formats.filter((item) => chosen(formats).includes(item))) {
      for (const job of chosen(Object.keys(jobs))) {
        await measure(guests, sides, format, job, effort, results)
      }
    }
    return results
  } finally {
    await guests?.stop()
    rmSync(folder, { recursive: true })
  }
}

async function measure(
  guests: Guests,
  sides: readonly Side[],
  format: (typeof formats)[number],
  name: string,
  effort: Effort,
  results: Results,
): Promise<void> {
  const job = jobs[name]!
  const seconds = effort.quick ? 1 : 2
  const once = (side: Side) => (): Promise<number> =>
    guests.turn(side, (guest) => fio(guest, devices[format], job, seconds))
  const key = `${format}${name[0]!.toUpperCase()}${name.slice(1)}`
  if (sides.length === 1) {
    results[`${key}Own${job.unit}`] = rounded(await repeated(once('own'), effort))
    return
  }
  const pair = await paired({ own: once('own'), peer: once('peer') }, effort)
  results[`${key}Own${job.unit}`] = rounded(pair.own)
  results[`${key}Tcg${job.unit}`] = rounded(pair.peer)
  results[`${key}SpeedRatio`] = rounded(pair.ratio)
}

/** One run of fio: requests, or MiB, per second of the guest. */
async function fio(guest: DebianGuest, device: string, job: Job, seconds: number): Promise<number> {
  const common = '--name=j --ioengine=libaio --direct=1 --time_based --ramp_time=1'
  const line = `fio ${common} --filename=${device} --runtime=${seconds} ${job.options} --minimal`
  const text = await guest.shell(`${line} | grep '^3;'`)
  // Version 3 of the terse format: KiB/s and IOPS of reads are the fields 7 and 8, of writes 48 and 49.
  const fields = text.trim().split(';')
  const at = (job.write ? 48 : 7) + (job.unit === 'Iops' ? 1 : 0)
  const value = Number(fields[at - 1])
  if (!(value > 0) || fields[4] !== '0') throw new Error(`fio said: ${text}`)
  return job.unit === 'Iops' ? value : value / 1024
}

/** Two disks of a side's own, full of what differs in every sector. */
function disks(folder: string, side: Side): string[] {
  const raw = join(folder, `${side}.raw`)
  const qcow2 = join(folder, `${side}.data.qcow2`)
  fillImage(raw, imageMib)
  const convert = ['convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2]
  const { status } = spawnSync(ownImageCommand, convert, { stdio: 'inherit' })
  if (status !== 0) throw new Error(`qemu-img ended with ${status}`)
  const drive = (file: string, format: string): string[] => [
    '-drive',
    `file=${file},if=virtio,format=${format}`,
  ]
  return [...drive(raw, 'raw'), ...drive(qcow2, 'qcow2')]
}
