import type { SnapshotInfo } from '../block/index.ts'
import { sizeText } from './size-text.ts'

/** A list of internal snapshots for people, with its heading. */
export function snapshotLines(snapshots: readonly SnapshotInfo[]): string[] {
  const lines = ['Snapshot list:']
  lines.push('ID        TAG               VM SIZE                DATE     VM CLOCK     ICOUNT')
  for (const { id, name, vmStateBytes, date, vmClockNsec, icount } of snapshots) {
    const size = sizeText(vmStateBytes).padStart(8)
    const rest = `${local(date.sec).padStart(20)}${clock(vmClockNsec).padStart(13)}`
    lines.push(`${id.padEnd(9)} ${name.padEnd(16)} ${size}${rest}${`${icount ?? ''}`.padStart(11)}`)
  }
  return lines
}

const two = (value: number): string => `${value}`.padStart(2, '0')

/** In the time zone of the host. */
function local(sec: number): string {
  const date = new Date(sec * 1000)
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
}

function clock(nsec: bigint): string {
  const ms = Number(nsec / 1_000_000n)
  const sec = Math.floor(ms / 1000)
  const hours = two(Math.floor(sec / 3600))
  return `${hours}:${two(Math.floor(sec / 60) % 60)}:${two(sec % 60)}.${`${ms % 1000}`.padStart(3, '0')}`
}
