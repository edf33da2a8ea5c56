import { join } from 'node:path'
import { bad, note, ok } from './finding.ts'
import type { Finding, Host } from './finding.ts'
import { text } from './kvm.ts'

/** A guest with less is a small one. */
const LEAST_KIB = 512 * 1024
/** A daemon and its guests: sockets, images and logs of each. */
const FILES = 4096

/** Memory of the host that is left, and its large pages. */
export function examineMemory({ root }: Host): Finding[] {
  const info = text(join(root, '/proc/meminfo'))
  const of = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(info)?.[1] ?? 0)
  const available = of('MemAvailable')
  const mib = Math.floor(available / 1024)
  const memory =
    available < LEAST_KIB
      ? note(
          'memory',
          `${mib} MiB are available`,
          'end what is not needed, or give guests less: <currentMemory>, virsh setmem',
        )
      : ok('memory', `${mib} MiB are available`)
  const [total, free, size] = [of('HugePages_Total'), of('HugePages_Free'), of('Hugepagesize')]
  const large =
    total === 0
      ? note(
          'large pages',
          'none are set aside: definitions with <hugepages/> do not start',
          `for 1 GiB of guest memory, as root: sysctl vm.nr_hugepages=${Math.ceil((1024 * 1024) / (size || 2048))}`,
        )
      : ok('large pages', `${free} of ${total} are free, ${size} KiB each`)
  const file = join(root, '/sys/kernel/mm/transparent_hugepage/enabled')
  const mode = /\[(\w+)\]/.exec(text(file))?.[1]
  const transparent =
    mode === 'never'
      ? note(
          'transparent large pages',
          'they are turned off: guests without <hugepages/> have small pages, and are slower',
          'as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled',
        )
      : ok('transparent large pages', mode ?? 'not known')
  return [memory, large, transparent]
}

/** How many files the daemon may open. */
export function examineFiles({ root }: Host): Finding {
  const [, soft, hard] =
    /^Max open files\s+(\S+)\s+(\S+)/m.exec(text(join(root, '/proc/self/limits'))) ?? []
  const most = hard === 'unlimited' ? Number.POSITIVE_INFINITY : Number(hard ?? 0)
  if (soft === undefined) return ok('open files', 'not known')
  if (most >= FILES) return ok('open files', `${soft} at a time, up to ${hard}`)
  const finding = most < 256 ? bad : note
  return finding(
    'open files',
    `${hard} at a time: each running domain needs up to ten`,
    `raise the limit: ulimit -n ${FILES}, LimitNOFILE= of systemd, or /etc/security/limits.conf`,
  )
}
