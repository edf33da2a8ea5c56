import { dirname } from 'node:path'
import { element, printXml, text } from '../xml/index.ts'
import type { XmlElement } from '../xml/index.ts'
import { statImage } from './volume.ts'
import type { FileFacts, Volume } from './volume.ts'

const line = (name: string, value: string | number, attributes: Record<string, string> = {}) =>
  element(name, attributes, [text(String(value))])

/** As `virsh vol-dumpxml` shows it, after the pool was refreshed. */
export function describeVolume(volume: Volume): string {
  const { name, path, format, capacity, allocation, physical, qcow2, backing } = volume
  const target = [line('path', path), element('format', { type: format }), ...describeFile(volume)]
  if (qcow2 !== undefined) {
    // What is left out is what version 2 has.
    if (qcow2.compat === '1.1') target.push(line('compat', qcow2.compat))
    target.push(line('clusterSize', qcow2.clusterSize, { unit: 'B' }))
    if (qcow2.compat === '1.1') {
      target.push(
        element(
          'features',
          {},
          qcow2.features.map((feature) => element(feature)),
        ),
      )
    }
  }
  const children: XmlElement[] = [
    line('name', name),
    line('key', path),
    line('capacity', capacity, { unit: 'bytes' }),
    line('allocation', allocation, { unit: 'bytes' }),
    line('physical', physical, { unit: 'bytes' }),
    element('target', {}, target),
  ]
  if (backing !== undefined) children.push(describeBacking(path, backing))
  return printXml(element('volume', { type: 'file' }, children))
}

function describeBacking(
  image: string,
  { path, format }: NonNullable<Volume['backing']>,
): XmlElement {
  // Of another host's, or `json:{…}`, it is as the image says.
  const isRemote = /^[\w+.-]+:/.test(path)
  const whole = isRemote || path.startsWith('/') ? path : `${dirname(image)}/${path}`
  const file = isRemote ? undefined : statImage(whole)
  return element('backingStore', {}, [
    line('path', whole),
    element('format', { type: format ?? file?.format ?? 'raw' }),
    ...(file === undefined ? [] : describeFile(file)),
  ])
}

function describeFile({ mode, uid, gid, times }: FileFacts): XmlElement[] {
  return [
    element('permissions', {}, [
      line('mode', `0${mode.toString(8).padStart(3, '0')}`),
      line('owner', uid),
      line('group', gid),
    ]),
    // libvirt does not know when a file was made.
    element('timestamps', {}, [
      ...Object.entries(times).map(([name, time]) => line(name, seconds(time))),
      line('btime', 0),
    ]),
  ]
}

/** Nanoseconds as seconds. */
function seconds(time: bigint): string {
  const rest = time % 1_000_000_000n
  const whole = `${time / 1_000_000_000n}`
  return rest === 0n ? whole : `${whole}.${String(rest).padStart(9, '0')}`
}
